"""STiCA: contrastive pretraining with crops of feature maps in space and time (Patrick et al.)."""
