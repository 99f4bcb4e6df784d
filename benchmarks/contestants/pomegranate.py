"""pomegranate: EM in PyTorch, on its GPU if there is one. It adds nothing to covariances: reg_covar has to be 0."""

from __future__ import annotations

import numpy as np
import torch
from pomegranate.distributions import Normal
from pomegranate.gmm import GeneralMixtureModel

from benchmarks.contestants.base import Absent, Outcome, Prepared
from benchmarks.problems import Problem, Start
from benchmarks.scoring import log_likelihood

FAMILIES = ("full", "diag")


def em(problem: Problem) -> Prepared:
    """One fit from the given parameters; tol = -inf accepts any change, so that no iteration is left out."""
    case = problem.case
    if case.covariance_type not in FAMILIES or case.reg_covar:
        raise Absent(f"pomegranate has no {case.covariance_type} covariances with reg_covar {case.reg_covar}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x = torch.as_tensor(problem.x, device=device)

    def run(n_iter: int) -> Outcome:
        # A fit changes the model in place, so each takes a fresh one; building it is part of the set-up.
        start = problem.start
        model = GeneralMixtureModel(
            [
                Normal(torch.tensor(mean), torch.tensor(covariance), covariance_type=case.covariance_type)
                for mean, covariance in zip(start.means, start.covariances, strict=True)
            ],
            priors=torch.tensor(start.weights),
            max_iter=n_iter,
            tol=-np.inf,
        ).to(device)
        model.fit(x)
        end = Start(
            model.priors.numpy(force=True),
            np.stack([d.means.numpy(force=True) for d in model.distributions]),
            np.stack([d.covs.numpy(force=True) for d in model.distributions]),
        )
        # It does not count; its loop can only end early on an improvement below -inf.
        return Outcome(lambda: log_likelihood(problem, end), n_iter)

    return Prepared(run, note=f"on {device}")
