"""Trains the digits sample and writes ../digits.yaml: the ModelRuntime and the ConfigMap that holds its model.

    uv run --with scikit-learn==1.7.2 python manifests/samples/digits/train.py

The data set (1,797 images of real handwriting) ships with scikit-learn. One image in four is kept out of the training; some of
those become examples.json, for whoever wants to ask the model something that it has never seen.
"""

from __future__ import annotations

import base64
import io
import json
import textwrap
from pathlib import Path

import joblib
import sklearn
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

HERE = Path(__file__).parent
EXAMPLES = 20


def main() -> None:
    digits = load_digits()
    train_x, test_x, train_y, test_y = train_test_split(digits.data, digits.target, test_size=0.25, random_state=7)
    model = LogisticRegression(C=0.01, max_iter=2000).fit(train_x, train_y)
    print(f"{len(train_x)} images learnt, {model.score(test_x, test_y):.1%} of {len(test_x)} others recognised")
    stored = io.BytesIO()
    joblib.dump(model, stored, compress=9)
    template = (HERE / "modelruntime.yaml.in").read_text()
    (HERE.parent / "digits.yaml").write_text(
        template.replace("@SKLEARN@", sklearn.__version__)
        .replace("@FUNC_MAIN@", textwrap.indent((HERE / "func_main.py").read_text(), "    ").strip())
        .replace("@MODEL@", base64.b64encode(stored.getvalue()).decode())
    )
    examples = [
        {"digit": int(y), "pixels": x.astype(int).tolist()} for x, y in zip(test_x[:EXAMPLES], test_y[:EXAMPLES])
    ]
    (HERE / "examples.json").write_text("[\n" + ",\n".join(map(json.dumps, examples)) + "\n]\n")


if __name__ == "__main__":
    main()
