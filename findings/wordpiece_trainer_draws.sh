#!/usr/bin/env bash
# Two trainings of a WordPiece vocabulary on the same texts can differ.
#
# One would expect: `WordPieceTrainer` of tokenizers has no seed and no option for one, so the same texts in the same
#   order give the same vocabulary, as `BpeTrainer` does, on which it is built.
# What happens: among pieces that are equally frequent another one is kept from process to process, so vocabularies, ids
#   and splits of words differ between runs; of BPE with the same settings all are the same.
# Versions: tokenizers 0.23.3, Python 3.11, Linux.
# Why it matters here: a run that trains its tokenizer cannot be repeated to the same bits, and a test on top of one
#   fails now and then. A vocabulary has to be kept with the run; Labbook's own are made without a draw.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check tokenizers==0.23.3

cat > "$folder/train.py" <<'PYTHON'
import sys

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

texts = ["a lovely film with warm scenes", "a dull film with cold scenes", "the plot is good and the cast is bad"] * 3
kind = sys.argv[1]
tokenizer = Tokenizer(getattr(models, kind)(unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
trainer = {"WordPiece": trainers.WordPieceTrainer, "BPE": trainers.BpeTrainer}[kind]
tokenizer.train_from_iterator(texts, trainer(vocab_size=50, special_tokens=["[UNK]"], show_progress=False))
print(*sorted(tokenizer.get_vocab()))
PYTHON

for kind in WordPiece BPE; do
    for _ in $(seq 40); do "$folder/venv/bin/python" "$folder/train.py" "$kind"; done | sort -u > "$folder/$kind"
done
several() { if (($(wc -l < "$folder/$1") > 1)); then echo "several vocabularies"; else echo "one vocabulary"; fi; }
seen="WordPiece: $(several WordPiece); BPE: $(several BPE)"
echo "$seen (of 40 trainings each)"
[[ $seen == "WordPiece: several vocabularies; BPE: one vocabulary" ]]

# Seen:
# WordPiece: several vocabularies; BPE: one vocabulary (of 40 trainings each)
