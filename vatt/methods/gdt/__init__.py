"""GDT and STiCA: contrastive pretraining of video with sound or captions (Patrick et al., 2021)."""
