#!/usr/bin/env bash
# torch.onnx.export writes another opset than the one asked for.
#
# One would expect: `torch.onnx.export(..., opset_version=17)` gives a model of opset 17, or raises an error.
# What happens: the exporter writes opset 18 and then tries to go back. Where that fails, it returns the model of
#   opset 18, with lines in the log as the only sign: so for the mean at the end of nearly each net for images. A
#   reader that knows operators up to opset 17, such as onnx2torch, refuses the file. Where it succeeds the model may
#   be wrong: a split keeps an attribute that opset 17 does not have, and onnx.checker rejects it. Without `opset_version`
#   the opset is 20. The log says beforehand that going back may fail, whether it then does or not.
# Versions: torch 2.14.1, onnx 1.23.2, onnxscript 0.7.2, onnx2torch 1.5.15, Python 3.11.
# Why it matters here: a user cannot always write a graph that onnx2torch reads by asking for an older opset.
#   src/models/components/onnx_graphs.py writes operators of later opsets in terms of opset 17.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 onnx==1.23.2 onnxscript==0.7.2 \
    onnx2torch==1.5.15

cat > "$folder/try.py" <<'PYTHON'
import onnx
import onnx2torch
import torch
from torch import nn


class Swap(nn.Module):
    """The two halves of a row in the other order."""

    def forward(self, x):
        first, second = x.chunk(2, 1)
        return torch.cat([second, first], 1)


for title, net, shape in (("split", Swap(), (1, 4)), ("mean", nn.AdaptiveAvgPool2d(1), (1, 2, 4, 4))):
    for wanted in (17, None):
        model = torch.onnx.export(
            net.eval(), (torch.ones(shape),), dynamo=True, opset_version=wanted, verbose=False
        ).model_proto
        got = next(opset.version for opset in model.opset_import if opset.domain == "")
        try:
            onnx.checker.check_model(model, full_check=True)
            checker = "valid"
        except onnx.checker.ValidationError:
            checker = "not valid"
        try:
            onnx2torch.convert(model)
            reader = "read by onnx2torch"
        except NotImplementedError:
            reader = "refused by onnx2torch"
        print(f"{title}: asked for {wanted}, got {got}, {checker}, {reader}")
PYTHON

seen=$("$folder/venv/bin/python" "$folder/try.py" 2> "$folder/log") || { cat "$folder/log" >&2; exit 1; }
echo "$seen"
[[ $seen == "split: asked for 17, got 17, not valid, read by onnx2torch
split: asked for None, got 20, valid, refused by onnx2torch
mean: asked for 17, got 18, valid, refused by onnx2torch
mean: asked for None, got 20, valid, refused by onnx2torch" ]]

# Seen:
# split: asked for 17, got 17, not valid, read by onnx2torch
# split: asked for None, got 20, valid, refused by onnx2torch
# mean: asked for 17, got 18, valid, refused by onnx2torch
# mean: asked for None, got 20, valid, refused by onnx2torch
