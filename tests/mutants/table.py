"""Faults that a person might make, and the tests that are expected to notice them first."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One planted fault: `old` stands exactly once in `file` (of the package) and becomes `new`.

    tests: what to give pytest; the tests most likely to fail.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


ORACLE = "tests/test_against_oracle.py"
LAWS = "tests/test_laws.py"
STOPPING = "tests/test_stopping.py"
KERNELS = "tests/test_kernels.py"
KMEANS = "tests/test_kmeans_start.py"
MANY = "tests/test_many.py"
GRADIENT = "tests/test_gradient.py"

MUTANTS = (
    # Gradients
    Mutant(
        "normalising constants left out of the gradient",
        "objective.py",
        "factors.log_weights, 0.0) + factors.log_norm)",
        "factors.log_weights, 0.0))",
        (f"{GRADIENT}::test_gradients_are_those_of_the_dense_sum",),
    ),
    Mutant(
        "floor left out of the slope",
        "objective.py",
        "xx_sum=stats.xx_sum + added",
        "xx_sum=stats.xx_sum",
        (f"{GRADIENT}::test_the_slope_vanishes_where_em_stands_still",),
    ),
    Mutant(
        "penalty added instead of subtracted",
        "em/climb.py",
        "total -= jnp.asarray(task.penalty",
        "total += jnp.asarray(task.penalty",
        (f"{GRADIENT}::test_a_penalty_moves_the_optimum_to_where_its_gradient_is_balanced",),
    ),
    Mutant(
        "last batch weighs less",
        "em/climb.py",
        "(n / own).astype",
        "(n / batch_size).astype",
        (f"{GRADIENT}::test_a_whole_epoch_weighs_every_row_once",),
    ),
    # Being stopped
    Mutant(
        "a signal ends nothing while there is nothing to keep",
        "_interrupt.py",
        "if not wish.holding:",
        "if wish.holding:",
        ("tests/test_interruption.py::test_one_signal_is_enough_where_there_is_nothing_to_keep",),
    ),
    Mutant(
        "columns numbered where they have names",
        "many.py",
        "self._failure(i).named(columns)",
        "self._failure(i)",
        (f"{MANY}::test_the_shell_names_the_columns_of_degenerate_groups",),
    ),
    # Criteria
    Mutant(
        "sign of aic",
        "criteria.py",
        "return -2.0 * log_likelihood + 2.0 * n_params",
        "return 2.0 * log_likelihood + 2.0 * n_params",
        (f"{ORACLE}::test_criteria_from_numbers",),
    ),
    Mutant(
        "wrong constant in bic",
        "criteria.py",
        "n_params * math.log(n_samples)",
        "n_params * math.log2(n_samples)",
        (f"{ORACLE}::test_criteria_from_numbers",),
    ),
    Mutant(
        "icl is bic",
        "stats.py",
        "jnp.dot(found.peak + common, w",
        "jnp.dot(found.log_sum + common, w",
        (f"{ORACLE}::test_fit_follows_the_path_of_exact_em",),
    ),
    Mutant(
        "weights counted as K free parameters",
        "criteria.py",
        "return n_components - 1 + n_components * n_features + covariances",
        "return n_components + n_components * n_features + covariances",
        (f"{ORACLE}::test_parameters_are_counted",),
    ),
    Mutant(
        "silhouette with the wrong sign",
        "criteria.py",
        "safe_divide(nearest - within,",
        "safe_divide(within - nearest,",
        (f"{ORACLE}::test_silhouette",),
    ),
    # Steps
    Mutant(
        "means off by a thousandth of their step",
        "steps.py",
        "stats.pivot + shift, params.means)",
        "stats.pivot + 1.001 * shift, params.means)",
        (f"{ORACLE}::test_e_step_and_m_step",),
    ),
    Mutant(
        "pivot dropped",
        "kernels.py",
        "return Moments(*sums, pivot=factors.means)",
        "return Moments(*sums, pivot=jnp.zeros_like(factors.means))",
        (f"{ORACLE}::test_e_step_and_m_step",),
    ),
    Mutant(
        "row weights ignored in all moments",
        "stats.py",
        "resp = found.terms * (w / found.total)[None, :]",
        "resp = found.terms * (jnp.sign(w) / found.total)[None, :]",
        (f"{ORACLE}::test_e_step_and_m_step",),
    ),
    Mutant(
        "rows of no component counted in the shared second moment of a start",
        "stats.py",
        "jnp.sum(share, axis=0), precision",
        "w, precision",
        ("tests/test_starts.py::test_moments_of_a_hard_partition",),
    ),
    Mutant(
        "moments of a start about no pivot",
        "stats.py",
        "delta = x - jnp.matmul(pivot.T, owner, precision=PRECISION)",
        "delta = x",
        ("tests/test_starts.py::test_moments_of_a_hard_partition",),
    ),
    Mutant(
        "row weights ignored in the shared second moment",
        "kernels.py",
        "jnp.matmul(shared, weight, precision=PRECISION)",
        "jnp.matmul(shared, jnp.sign(weight), precision=PRECISION)",
        (f"{ORACLE}::test_fit_follows_the_path_of_exact_em", KERNELS),
    ),
    Mutant(
        "rows of weight zero are looked at",
        "stats.py",
        "how.view(prepared, jnp.where(w[:, None] > 0, rows, 0.0))",
        "how.view(prepared, rows)",
        (f"{KERNELS}::test_rows_of_weight_zero_are_as_if_absent",),
    ),
    Mutant(
        "tied covariance divided by K",
        "covariance/_tied.py",
        "(scatter - between) / jnp.sum(resp_sum)",
        "(scatter - between) / resp_sum.shape[0]",
        (f"{ORACLE}::test_e_step_and_m_step",),
    ),
    Mutant(
        "between-part added to diagonal variances",
        "covariance/_axis_aligned.py",
        "safe_divide(scatter - between,",
        "safe_divide(scatter + between,",
        (f"{ORACLE}::test_e_step_and_m_step",),
    ),
    Mutant(
        "inactive component gets responsibility",
        "density.py",
        "return jnp.where(active, joint, -jnp.inf)",
        "return joint",
        (f"{KERNELS}::test_inactive_components_count_for_nothing", LAWS),
    ),
    Mutant(
        "normalising constant off by log 2",
        "params.py",
        "- 0.5 * n_features * LOG_2PI",
        "- 0.5 * n_features * LOG_2PI - 0.6931471805599453",
        (f"{ORACLE}::test_densities",),
    ),
    Mutant(
        "Mahalanobis distance without its diagonal",
        "covariance/_full.py",
        "for i in range(1, j + 1):",
        "for i in range(1, j):",
        (f"{ORACLE}::test_densities",),
    ),
    Mutant(
        "predict takes the last of the components",
        "density.py",
        "jnp.where(joint >= peak, index,",
        "jnp.where(joint > peak, index,",
        (f"{LAWS}::test_responsibilities_sum_to_one",),
    ),
    Mutant(
        "uncertainty from the smallest responsibility",
        "functional.py",
        "return 1.0 - jnp.max(_density",
        "return 1.0 - jnp.min(_density",
        (f"{LAWS}::test_responsibilities_sum_to_one",),
    ),
    Mutant(
        "sums of single precision drift",
        "_blocks.py",
        "return new, (new - total) - part",
        "return new, jnp.zeros_like(part)",
        (f"{LAWS}::test_single_precision_sums_do_not_drift_with_the_number_of_blocks",),
    ),
    Mutant(
        "factor of half a matrix",
        "linalg.py",
        "return jnp.swapaxes(_factors(symmetrise(covariances))[1], -1, -2)",
        "return jnp.swapaxes(_factors(covariances)[1], -1, -2)",
        ("tests/test_linalg.py::test_numpy_agrees_and_only_the_symmetric_part_counts",),
    ),
    # Kernels
    Mutant(
        "cross term of the features kernel halved",
        "covariance/_pairs.py",
        "np.where(first == second, -0.5, -1.0)",
        "np.where(first == second, -0.5, -0.5)",
        (f"{ORACLE}::test_fit_follows_the_path_of_exact_em",),
    ),
    Mutant(
        "loss of digits without the distance from the pivot",
        "kernels.py",
        "magnitude = jnp.abs(factors.means) + jnp.sqrt(",
        "magnitude = jnp.sqrt(",
        (f"{KERNELS}::test_lost_digits_bound_the_error_of_features", KERNELS),
    ),
    Mutant(
        "loss of digits without the number of features",
        "kernels.py",
        "loss = params.n_features * jnp.max(",
        "loss = jnp.max(",
        (KERNELS,),
    ),
    # The loop
    Mutant(
        "NaN treated as converged",
        "em/loop.py",
        "jnp.where(wanted > noise, (size <= wanted) | (options.aitken & still), still)",
        "~(size > jnp.maximum(wanted, noise))",
        (f"{STOPPING}::test_every_stop_code",),
    ),
    Mutant(
        "a log-likelihood that is not finite is accepted",
        "em/loop.py",
        "sound = precise & regular & jnp.isfinite(log_likelihood + penalty)",
        "sound = precise & regular",
        (f"{STOPPING}::test_a_log_likelihood_that_is_not_finite_stops_and_changes_nothing",),
    ),
    Mutant(
        "a covariance without a correct digit is accepted",
        "params.py",
        "conditional > singular_floor(n_features, moment.dtype) * (moment + square)",
        "conditional > 0.0 * (moment + square)",
        (f"{STOPPING}::test_a_singularity_is_no_success_and_no_nan", "tests/test_degenerate_sets.py"),
    ),
    Mutant(
        "best state not kept",
        "em/loop.py",
        "better = sound & (log_likelihood + penalty > state.best_log_likelihood + state.best_penalty - noise)",
        "better = sound",
        (f"{STOPPING}::test_the_best_state_is_returned_when_regularisation_leads_away_from_it",),
    ),
    Mutant(
        "tolerance not relative",
        "em/loop.py",
        "options.tol * (options.row_weight + jnp.abs(stats.log_likelihood))",
        "options.tol * options.row_weight",
        (f"{STOPPING}::test_tol_is_relative_to_the_total",),
    ),
    Mutant(
        "single precision heeds a change that is rounding",
        "em/loop.py",
        "size = jnp.where(size <= CLEAR_CHANGE * noise, gain, size)",
        "size = jnp.where(size < 0, gain, size)",
        (f"{STOPPING}::test_every_stop_code",),
    ),
    Mutant(
        "single precision forgets what reg_covar adds to the slope",
        "em/loop.py",
        "family.add_to_diagonal(ahead.covariances, -2.0 * reg_covar)",
        "family.add_to_diagonal(ahead.covariances, -0.0 * reg_covar)",
        ("tests/test_accuracy.py::test_single_precision_stops_where_double_does",),
    ),
    Mutant(
        "a fall under regularisation is a fault",
        "em/loop.py",
        "(change < -DECREASE_FACTOR * noise) & jnp.all(options.reg_covar == 0)",
        "(change < -DECREASE_FACTOR * noise)",
        (f"{STOPPING}::test_every_stop_code",),
    ),
    Mutant(
        "history misaligned by one iteration",
        "em/burst.py",
        "& ~failed, new.stats.log_likelihood + new.penalty, jnp.nan)",
        "& ~failed, old.stats.log_likelihood + old.penalty, jnp.nan)",
        (f"{ORACLE}::test_fit_follows_the_path_of_exact_em",),
    ),
    Mutant(
        "wrong restart chosen",
        "em/restarts.py",
        "return max(range(len(lanes.status))",
        "return min(range(len(lanes.status))",
        (f"{STOPPING}::test_the_healthiest_restart_wins",),
    ),
    Mutant(
        "failed restarts count as agreement",
        "em/result.py",
        "np.mean(sound & (gap <=",
        "np.mean((gap <=",
        ("tests/test_fit.py::test_the_share_of_the_best_counts_no_failures",),
    ),
    # Rows
    Mutant(
        "reg_covar not scaled with the rows",
        "_options.py",
        "unit = 1.0 / scale / scale",
        "unit = 1.0",
        (f"{ORACLE}::test_fit_follows_the_path_of_exact_em",),
    ),
    Mutant(
        "padding rows given weight",
        "data/rows.py",
        "padded = _zeros((row_bucket(n_rows or len(values)),), dtype)",
        "padded = np.ones((row_bucket(n_rows or len(values)),), dtype)",
        (f"{ORACLE}::test_e_step_and_m_step",),
    ),
    Mutant(
        "the mean of the rows follows their memory layout",
        "data/rows.py",
        "share @ np.ascontiguousarray(x[start : start + CHUNK], np.float64)",
        "share @ x[start : start + CHUNK].astype(np.float64)",
        ("tests/test_properties.py::test_memory_layout_and_byte_order_change_no_bit",),
    ),
    Mutant(
        "covariances that underflow are returned",
        "em/restarts.py",
        " or smallest_variance(params) < lowest",
        "",
        (f"{STOPPING}::test_covariances_below_the_dtype_are_an_error",),
    ),
    Mutant(
        "dtype not kept",
        "_checks.py",
        "target = np.float32 if array.dtype.itemsize <= 4 else np.float64",
        "target = np.float64",
        ("tests/test_estimator.py::test_dtype_follows_the_data", f"{STOPPING}::test_no_iteration_returns_the_start"),
    ),
    Mutant(
        "masked values read as numbers",
        "_checks.py",
        "if isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):",
        "if False:",
        ("tests/test_checks.py::test_data_that_cannot_be_used",),
    ),
    Mutant(
        "negative weights accepted",
        "_checks.py",
        "if (weight < 0).any():",
        "if False:",
        ("tests/test_checks.py::test_weights_that_cannot_be_used",),
    ),
    Mutant(
        "standard deviation of a sample",
        "data/scaling.py",
        "np.sqrt(squares / len(x))",
        "np.sqrt(squares / max(1, len(x) - 1))",
        ("tests/test_data_sources.py", "tests/test_synthetic.py"),
    ),
    # Starts
    Mutant(
        "k-means++ ignoring weights",
        "init/_kmeans.py",
        "jnp.where(some, w * nearest, w)",
        "jnp.where(some, nearest, w)",
        (f"{KMEANS}::test_candidates_follow_weight_times_squared_distance",),
    ),
    Mutant(
        "k-means++ of many sets ignoring weights",
        "init/_lane.py",
        "left = weight * nearest",
        "left = nearest",
        (f"{MANY}::test_every_start", MANY),
    ),
    Mutant(
        "a seed is the candidate that leaves most",
        "init/_kmeans.py",
        "best = jnp.argmin(jnp.sum(left, axis=0))",
        "best = jnp.argmax(jnp.sum(left, axis=0))",
        (f"{KMEANS}::test_a_seed_is_the_candidate_that_leaves_least",),
    ),
    Mutant(
        "centres step beyond the mirror of their place",
        "init/_kmeans.py",
        "OVERSTEP = 1.8",
        "OVERSTEP = 2.4",
        (f"{KMEANS}::test_stepping_beyond_the_means_lowers_the_inertia_and_saves_passes",),
    ),
    Mutant(
        "a centre that lost its rows goes to zero",
        "init/_kmeans.py",
        "jnp.where((mass > 0)[:, None], safe_divide(total, mass[:, None]) - state.centres, 0.0)",
        "safe_divide(total, mass[:, None]) - state.centres",
        (f"{KMEANS}::test_a_centre_without_rows_stays",),
    ),
    Mutant(
        "what is left of a chunk is cut out on the device",
        "em/many.py",
        "return jax.tree.map(np.array, after)",
        "return after if not fresh else jax.tree.map(np.array, after)",
        (f"{MANY}::test_sets_that_outlast_a_turn_are_not_compiled_anew",),
    ),
    Mutant(
        "the scale of a set forgotten",
        "em/many.py",
        "log_volume=(sets.n_features * np.log(packed.scale)).astype(dtype),",
        "",
        (f"{MANY}::test_a_set_of_any_scale",),
    ),
    Mutant(
        "a constant column keeps the rounding of its mean",
        "data/rows.py",
        "mean = np.where(still, first, mean)",
        "mean = 1.0 * mean",
        ("tests/test_prior.py",),
    ),
    Mutant(
        "the key of a set is its place in a chunk",
        "em/chunks.py",
        "jax.random.fold_in(key, number[i])",
        "jax.random.fold_in(key, i)",
        (MANY,),
    ),
    # Draws, files, labels
    Mutant(
        "sample ignoring weights",
        "sampling.py",
        "safe_log(jnp.asarray(params.weights))",
        "jnp.zeros_like(jnp.asarray(params.weights))",
        (f"{LAWS}::test_samples_have_the_moments_of_the_mixture",),
    ),
    Mutant(
        "variance used as a standard deviation in draws",
        "covariance/_axis_aligned.py",
        "deviations = self._spread(jnp.sqrt(covariances))",
        "deviations = self._spread(covariances)",
        (f"{LAWS}::test_samples_have_the_moments_of_the_mixture",),
    ),
    Mutant(
        "densities per rescaled unit",
        "model.py",
        "values -= self._log_scale",
        "values += self._log_scale",
        ("tests/test_model.py",),
    ),
    Mutant(
        "files in single precision",
        "io.py",
        "**{name: getattr(model.params, name) for name in",
        "**{name: getattr(model.params, name).astype(np.float32).astype(model.params.dtype) for name in",
        ("tests/test_io.py::test_every_family_and_dtype_comes_back_bit_for_bit",),
    ),
    Mutant(
        "digest unchecked",
        "io.py",
        'as_written = header["digest"] == _digest(header, arrays)',
        "as_written = True",
        ("tests/test_io.py::test_other_numbers_are_noticed_in_files_of_older_schemas",),
    ),
    Mutant(
        "bytes of a file without a digest",
        "io.py",
        'as_written &= header["schema"] < _SEALED or _is_sealed(path)',
        "as_written &= True",
        ("tests/test_damaged_files.py::test_two_thousand_flipped_bytes_are_seen",),
    ),
    Mutant(
        "logarithms of responsibilities lost beside the density",
        "density.py",
        "((joint - found.anchor[None, :]) - found.log_total[None, :]).T",
        "(joint - found.log_sum[None, :]).T",
        ("tests/test_predict.py::test_log_responsibilities_of_far_rows_keep_their_digits",),
    ),
    Mutant(
        "what the data lack blamed on components",
        "em/diagnosis.py",
        "varying = directions[:, values > 1.0]",
        "varying = directions",
        ("tests/test_diagnosis.py::test_what_the_data_themselves_lack_is_no_fault_of_a_component",),
    ),
    Mutant(
        "labels matched as badly as possible",
        "compare.py",
        "linear_sum_assignment(table, maximize=True)",
        "linear_sum_assignment(table, maximize=False)",
        ("tests/test_compare.py",),
    ),
    Mutant(
        "the prior pushes means away",
        "steps.py",
        "pulled = stats.x_sum + prior.mean_weight",
        "pulled = stats.x_sum - prior.mean_weight",
        ("tests/test_prior.py",),
    ),
    Mutant(
        "a covariance under a prior divided by too few rows",
        "prior.py",
        "resp_sum + own + 1.0",
        "resp_sum + own",
        ("tests/test_prior.py",),
    ),
    Mutant(
        "bold steps taken even when they lower the objective",
        "em/loop.py",
        "refused = bold & (~sound | (change < -noise))",
        "refused = bold & ~sound",
        ("tests/test_accelerate.py",),
    ),
    Mutant(
        "the floor of all columns the same",
        "_options.py",
        "np.where(varies, variances, np.maximum(",
        "np.where(varies, typical, np.maximum(",
        ("tests/test_diagnosis.py", "tests/test_laws.py"),
    ),
    Mutant(
        "every component at the floor",
        "_numerics.py",
        "AT_FLOOR = 1.5",
        "AT_FLOOR = 1e9",
        ("tests/test_diagnosis.py",),
    ),
    # Streams
    Mutant(
        "batches of a stream added up in single precision",
        "scale/devices.py",
        "n_rows=x.shape[0], dtype=np.float64)",
        "n_rows=x.shape[0], dtype=np.float32)",
        ("tests/test_streaming.py",),
    ),
    Mutant(
        "the rest of a piece dropped where a batch ends",
        "data/batches.py",
        "rest = _part(rest, slice(missing, None))",
        "rest = _part(rest, slice(len(rest.x), None))",
        ("tests/test_stream_sources.py",),
    ),
    Mutant(
        "moments of chunks joined without the gap between their means",
        "data/survey.py",
        "self.scatter += scatter + np.outer(gap, gap) * (self.weight * weight / everything)",
        "self.scatter += scatter",
        ("tests/test_stream_sources.py",),
    ),
    Mutant(
        "the sample drawn without weights",
        "data/survey.py",
        "np.log1p(-self.random.random(len(x))) / weight",
        "np.log1p(-self.random.random(len(x))) / (weight > 0)",
        ("tests/test_stream_sources.py",),
    ),
    Mutant(
        "a resumed pass begins one batch late",
        "scale/stream.py",
        "with contextlib.closing(self.batches(first)) as arriving:",
        "with contextlib.closing(self.batches(first + (first > 0))) as arriving:",
        ("tests/test_checkpoints.py",),
    ),
    Mutant(
        "a checkpoint of other data is taken",
        "api.py",
        'facts["digest of the data"] = stream.digest',
        "pass",
        ("tests/test_checkpoints.py",),
    ),
    Mutant(
        "sums of other processes forgotten",
        "scale/stream.py",
        "name: np.sum(parts, axis=0) for name",
        "name: np.asarray(parts[0]) for name",
        ("tests/test_processes.py",),
    ),
    Mutant(
        "old statistics kept about the old means",
        "scale/stepwise.py",
        "about_means = mixed.xx_sum - params.family.scatter(shift[:, :, None], mass[:, None])",
        "about_means = mixed.xx_sum",
        ("tests/test_stepwise.py",),
    ),
    # What people see
    Mutant(
        "the film shows the end in every frame",
        "plot/_film.py",
        "params=take(history.params, step)",
        "params=take(history.params, -1)",
        ("tests/test_film.py",),
    ),
    Mutant(
        "lanes of a later batch recorded as those of the first",
        "em/recording.py",
        "self.steps[self._first + lane].append(now)",
        "self.steps[lane].append(now)",
        ("tests/test_history.py",),
    ),
    Mutant(
        "the history kept in the units of the standardized columns",
        "model.py",
        "curves.astype(np.float64) - offset",
        "curves.astype(np.float64)",
        ("tests/test_history.py",),
    ),
    Mutant(
        "marginals in the units of the standardized columns",
        "plot/_mixture.py",
        "deviations * model.scale[columns]",
        "deviations",
        ("tests/test_plot.py",),
    ),
    Mutant(
        "ellipses half as wide",
        "plot/_ellipses.py",
        "2 * size * lengths[1], 2 * size * lengths[0]",
        "size * lengths[1], 2 * size * lengths[0]",
        ("tests/test_plot.py", "tests/test_plot_density.py"),
    ),
)
