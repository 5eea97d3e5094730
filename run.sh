#!/usr/bin/env bash
# Sets up .venv and pretrains VATT on a rendered corpus; with arguments, hands them to vatt.main.
#
#   ./run.sh                                     # everything, into runs/toy
#   ./run.sh --mode=eval --model_dir=runs/toy    # only the set-up, then vatt.main
#
# What is finished is not done again; an interrupted run continues when started again.
# PYTHON=/path/to/python chooses the interpreter (3.11, 3.12 or 3.13) that .venv is made with.
set -euo pipefail
started_in=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")"
source scripts/setup.sh
set_up requirements.lock

if [ "$#" -gt 0 ]; then
  # Paths in the arguments are meant from where the command was typed.
  root=$PWD
  cd "$started_in"
  PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" exec "$root/.venv/bin/python" -m vatt.main "$@"
fi

python=.venv/bin/python corpus=runs/toy_corpus config=configs/pretrain/toy.yaml
for set in toy_howto toy_audioset toy_retrieval toy_actions toy_sounds; do
  media=$corpus/media/$set records=$corpus/records/$set context=()
  # The card is what ingest writes last.
  if [ "$records/card.yaml" -nt "$media/manifest.csv" ]; then continue; fi
  if [ "$set" = toy_howto ]; then context=(--caption_context 0); fi
  $python -m vatt.data.toy --output_dir "$corpus/media" --sets "$set"
  $python -m vatt.data.ingest --manifest "$media/manifest.csv" --output_dir "$records" \
    --fps 10 --min_side 72 --sample_rate 16000 "${context[@]+"${context[@]}"}"
done

# Evaluating the last step writes metrics.json, then the report.
steps=$(sed -n 's/^ *total_steps: *\([0-9]*\).*/\1/p' "$config")
if [ runs/toy/metrics.json -nt "$config" ] && [ runs/toy/report.html -nt runs/toy/metrics.json ] &&
  grep -q "\"step\": $steps\b" runs/toy/metrics.json; then
  echo "runs/toy is finished; remove that folder to train again."
else
  $python -m vatt.main --task=pretrain --mode=train_and_eval --config_file="$config" \
    --model_dir=runs/toy --data_dir="$corpus/records"
fi

cat <<EOF

Done. In $PWD:
  runs/toy/report.html      curves, metrics and retrieval pictures: open it in a browser
  runs/toy/metrics.json     the final figures
  runs/toy/ckpt-*           checkpoints
  $corpus/media      the rendered videos
TensorBoard: .venv/bin/tensorboard --logdir runs/toy
EOF
