"""torchgmm: EM as epochs of PyTorch Lightning.

`GaussianMixture.fit` takes starting means at most, so its last part, which trains a Lightning module on a model, is
done here on a model that has all the parameters of the start. Like `fit` this treats one batch with all rows as
batch training: two passes over the data for each iteration.
"""

from __future__ import annotations

import logging
import warnings

import numpy as np
import torch
from torchgmm.base.data import DataLoader, collate_tensor, dataset_from_tensors
from torchgmm.bayes import GaussianMixture
from torchgmm.bayes.core import cholesky_precision
from torchgmm.bayes.gmm.lightning_module import GaussianMixtureLightningModule
from torchgmm.bayes.gmm.model import GaussianMixtureModel, GaussianMixtureModelConfig

from benchmarks.contestants.base import Outcome, Prepared
from benchmarks.problems import Problem, Start
from benchmarks.scoring import log_likelihood


def em(problem: Problem) -> Prepared:
    """One training from the given parameters; with tolerance 0 nothing stops it early."""
    case = problem.case
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    rows = dataset_from_tensors(torch.as_tensor(problem.x))
    loader = DataLoader(rows, batch_size=case.n_samples, collate_fn=collate_tensor)
    precision = 64 if problem.x.dtype == np.float64 else 32
    config = GaussianMixtureModelConfig(case.n_components, case.n_features, case.covariance_type)

    def run(n_iter: int) -> Outcome:
        model = GaussianMixtureModel(config).to(torch.as_tensor(problem.x).dtype)
        model.component_probs.copy_(torch.as_tensor(problem.start.weights))
        model.means.copy_(torch.as_tensor(problem.start.means))
        covariances = torch.as_tensor(problem.start.covariances)
        model.precisions_cholesky.copy_(cholesky_precision(covariances, case.covariance_type))
        module = GaussianMixtureLightningModule(
            model, convergence_tolerance=0, covariance_regularization=case.reg_covar, is_batch_training=True
        )
        trainer = GaussianMixture(trainer_params={"precision": precision}).trainer(
            max_epochs=2 * n_iter, enable_progress_bar=False
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice about data loaders
            trainer.fit(module, loader)
        arrays = (model.component_probs, model.means, model.covariances)
        end = Start(*(a.numpy(force=True) for a in arrays))
        return Outcome(lambda: log_likelihood(problem, end), module.current_epoch // 2)

    return Prepared(run, note="two passes an iteration, as in its fit")
