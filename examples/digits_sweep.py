"""A sweep over models and their settings on scikit-learn's handwritten digits.

    pip install "taskproc[examples]"
    taskproc run examples/digits_sweep.py -o .cache

Add a setting to GRID and run it again: only the new one is fitted.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from taskproc import Future, FutureDict, Task

MODELS = {"forest": RandomForestClassifier, "neighbours": KNeighborsClassifier, "svm": SVC}

GRID: dict[str, list[dict[str, Any]]] = {
    "forest": [{"n_estimators": n, "random_state": 0} for n in (10, 30, 100)],
    "neighbours": [{"n_neighbors": n, "weights": w} for n in (1, 3, 9) for w in ("uniform", "distance")],
    "svm": [{"C": c, "gamma": g} for c in (1.0, 10.0) for g in (0.005, 0.02)],
}


class Sample(NamedTuple):
    images: np.ndarray[Any, np.dtype[np.float64]]
    digits: np.ndarray[Any, np.dtype[np.int64]]


class SplitDigits(Task):
    """The images in two parts: one to choose a model by, one to judge it by."""

    def run_task(self) -> dict[str, Sample]:
        images, digits = load_digits(return_X_y=True)
        parts: list[Any] = train_test_split(images, digits, test_size=0.3, random_state=0, stratify=digits)
        return {"choose": Sample(parts[0], parts[2]), "judge": Sample(parts[1], parts[3])}


class CrossValidate(Task):
    """The mean accuracy of a model with its settings, over five folds."""

    def __init__(self, model: str, settings: dict[str, Any], sample: Future[Sample]):
        self.model = model
        self.settings = settings
        self.sample = sample

    def run_task(self) -> float:
        sample = self.sample.get_result()
        scores = cross_val_score(build(self.model, self.settings), sample.images, sample.digits, cv=5)
        return float(np.mean(scores))


class JudgeBest(Task):
    """Fit the best of the sweep on all it was chosen by, and judge it on what it has not seen."""

    def __init__(self, scores: dict[str, Future[float]], choose: Future[Sample], judge: Future[Sample]):
        self.scores = FutureDict(scores)
        self.choose = choose
        self.judge = judge

    def run_task(self) -> tuple[str, float]:
        scores = self.scores.get_result()
        best = max(scores, key=lambda title: scores[title])
        model, settings = trials()[best]
        known, unseen = self.choose.get_result(), self.judge.get_result()
        fitted = build(model, settings).fit(known.images, known.digits)
        return best, float(fitted.score(unseen.images, unseen.digits))


class Main(Task):
    def __init__(self) -> None:
        sample = SplitDigits()
        # An item of a task's result, before there is one: it is a Future too.
        choose, judge = sample["choose"], sample["judge"]
        self.scores = FutureDict({title: CrossValidate(*trial, choose) for title, trial in trials().items()})
        self.judged = JudgeBest(dict(self.scores), choose, judge)

    def run_task(self) -> str:
        for title, score in sorted(self.scores.get_result().items(), key=lambda item: -item[1]):
            print(f"{score:.4f}  {title}")
        best, accuracy = self.judged.get_result()
        print(f"best: {best}, with accuracy {accuracy:.4f} on unseen digits")
        return best


def trials() -> dict[str, tuple[str, dict[str, Any]]]:
    """Each point of the grid, under a title to show."""
    return {
        f"{model} " + " ".join(f"{name}={value}" for name, value in settings.items()): (model, settings)
        for model, points in GRID.items()
        for settings in points
    }


def build(model: str, settings: dict[str, Any]) -> Any:
    return make_pipeline(StandardScaler(), MODELS[model](**settings))


if __name__ == "__main__":
    Main.cli()
