"""Handwritten digits, recognised by scikit-learn: 8 x 8 images of 0 (white) to 16 (black), one image a row."""

from pathlib import Path

import joblib

MODEL = joblib.load(Path(__file__).parent.parent / "model.joblib")


def predict(pixels):
    probabilities = MODEL.predict_proba(pixels)
    return {"digit": probabilities.argmax(axis=1), "probability": probabilities.max(axis=1)}
