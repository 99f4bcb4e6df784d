"""Every code of an error or a warning: what it means and what to do. ERRORS.md and ``jaxgmm errors`` are made from it.

A code stands for one kind of fault, wherever it is found, and keeps its meaning: programs may rely on it. Its first
digit is the group, which also says the exception in Python and the exit code of the shell.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """Codes with the same beginning: their heading, the exception in Python, the exit code of the shell."""

    prefix: str
    title: str
    exception: str
    exit_code: int


@dataclass(frozen=True)
class Entry:
    """One kind of fault: its code, a title, and in a paragraph when it happens and what to do."""

    code: str
    title: str
    text: str

    @property
    def group(self) -> Group:
        """The group that the code belongs to."""
        return next(group for group in GROUPS if self.code.startswith(group.prefix))


GROUPS = (
    Group("E1", "Commands, options and arguments", "UsageError", 2),
    Group("E2", "Data and parameters", "DataError", 3),
    Group("E3", "Fits", "FitError", 1),
    Group("E4", "Files", "DataError", 3),
    Group("E5", "Configuration files", "UsageError", 2),
    Group("E9", "The run itself", "", 1),
    Group("W", "Warnings", "", 0),
)

# A line with the code and the title, and below it, indented, the paragraph.
_TABLE = """
E101 Unknown command
    The first word is neither a command nor a file. `jaxgmm --help` lists the commands.
E102 Unknown flag
    No command has a flag of this name. The nearest one is suggested; `jaxgmm COMMAND --help` lists them all.
E103 A flag of another command
    The flag exists, but this command does not take it. Use the command that is named, or leave the flag out.
E104 A flag without its value
    The flag needs one value or more behind it, or is a switch that takes none. Give what the message asks for.
E105 One word too many
    All places for words without a flag are taken. Quote names that contain blanks, or remove the word.
E106 Something needed is missing
    The command cannot start without it: the data, a model, a number of components, a column. An example is shown.
E107 Options that exclude each other
    Two of the options given contradict each other. Keep one of them.
E108 A value of the wrong kind
    The option or argument takes another kind of value: a whole number, a finite number of at least 0, a list of
    columns. The message says which; the same rules hold for flags, configuration files and Python.
E109 An unknown name
    The option or argument takes one of a few names, such as a covariance type, a start or a criterion, and this is
    none of them. The nearest name is suggested.
E110 Several covariance types for one fit
    `fit` and `fit-many` use one covariance type. To choose among several, use `jaxgmm sweep`.
E111 A silhouette without two clusters
    The silhouette compares clusters, so it needs counts of at least 2. Begin the range at 2 or choose by BIC.
E112 An option that the generator does not take
    Each generator of `jaxgmm generate` and of `generate` in a configuration has options of its own. The message lists
    them.
E113 Unknown code
    `jaxgmm errors CODE` explains one code; `jaxgmm errors` lists them all.
E120 An output of the wrong format
    The ending of an output file says what is written: `.npz` a model, `.npy` one array, `.csv` and `.tsv` a table.
    This output does not fit what was asked for. Change the ending or write the parts to files of their own.
E121 An output that is also the input
    Writing it would destroy the input. Name another file.
E122 One file for two outputs
    The second output would replace the first. Name two files.
E123 The directory of an output does not exist
    Directories are not created. Create it first.
E124 An output that is no file
    The name is empty or that of a directory. Name a file in it.
E125 An output that exists already
    Nothing is overwritten without being asked: name another file, or use `--force` (in Python `force=True`).
E126 Checkpoints that are not wanted
    The directory holds the state of an earlier run, and nothing was said about it. `--resume auto` goes on from it;
    another directory begins anew.
E127 No processes to join
    `--distributed auto` looks for a launcher: SLURM, MPI, or `jaxgmm launch`. Without one, say where process 0 listens,
    how many processes there are and which of them this is.
E128 Rows that cannot be shared out
    Several processes share the rows by their numbers, and how many there are is not known before they are read. Convert
    the data to `.npy` or Parquet, or let them be kept decoded.
E130 No such column
    A column is named by its name in the header or its number from 0, and the data have none of this name. The nearest
    name is suggested. A model looks for the columns that it was fitted on.
E131 A column chosen twice
    The same column stands in two places. Name it once.
E132 No column left
    All columns are left out, or serve as weight, label or group. Keep at least one.
E133 A name of several columns
    One column is needed and the name fits several. Use its number from 0.
E140 Nothing to choose from
    The list of counts, types or data sets is empty. Give at least one.
E141 A random key is missing
    The function draws random numbers, and keys are explicit: pass `key=jax.random.key(0)` or an integer seed.
E142 Not a random key
    `key` takes one JAX random key or one integer seed. Pass one of several keys.
E143 A start that does not fit the request
    `init` is the name of a method, or the parameters of one mixture with the covariance type and number of components
    that are asked for. A sweep over several takes a name only.
E144 Too many columns for the orthant start
    The orthant start counts the 2^D orthants about the mean, which is feasible for few columns. Use another start.
E145 An object of the wrong kind
    What was passed cannot be converted or stored. The message says what is accepted, such as `GMMParams`, a
    `FitResult` or a fitted `GaussianMixture`.
E146 Not fitted
    The estimator has no parameters yet. Call `fit(x)` first.
E147 An optional package is missing
    This one function needs it. Install the extra that is named.
E148 One table where several data sets are expected
    `fit_many` fits a mixture to each of many data sets. Give a list of tables, or one table and `groups`, a label for
    every row.
E149 Not a mixture to draw from
    The parameters of a generated sample must be those of a mixture: proportions with sum 1, shapes K, K x D and K x D
    x D, symmetric and positive definite covariances.
E150 Unknown parameter of the estimator
    `set_params` knows the constructor's parameters only.
E151 A prior that cannot be used
    Its parameters need the shapes that the data and the covariance type ask for, finite numbers, positive counts of
    rows and a positive definite scale. `prior="default"` is that of mclust.
E152 A fork of a process that has computed
    JAX's threads do not survive a fork, and what computes without them waits for ever. Start workers with
    `multiprocessing.get_context("spawn")`, or fork before the first fit.
E153 A penalty that cannot be used
    `fit_gradient` differentiates its penalty: a function of `GMMParams` in data units, made of `jax.numpy` operations,
    that returns one finite number with a finite gradient, and that does not fall faster than the log-likelihood without
    end. The message says what it does instead.
E154 An optimiser that cannot be used
    The optimiser of `fit_gradient` raised an error, which the message repeats, or returned updates or a state of
    another structure than it was given. Give a gradient transformation of optax that takes any tree of arrays.
E155 Weights beside a source
    `sample_weight` is given beside rows that have weights already, as those of `scan_table(..., weight_column=...)`.
    Leave one of the two out.
E156 A history that does not fit into memory
    With `history="params"` the parameters of every iteration of every restart are kept until the winner is known. Lower
    `max_iter` or the number of restarts.
E157 Columns that a plot cannot show
    A picture has two dimensions or three. Choose as many columns as the message says with `features`.
E158 A plot of what was not kept
    The film needs the parameters of every iteration, the curves need the log-likelihoods, and criteria need a sweep.
    Fit again with what the message names.
E201 Not numbers
    The data contain text, dates or objects where numbers are needed. Drop such columns or encode them first.
E202 Complex numbers
    A mixture describes real data. Use real and imaginary part as two columns.
E203 NaN or infinity
    A value is missing or not finite, in the data, the weights or after conversion to float32. Drop such rows, or
    impute the values. The first row and column are named, counted from 0.
E204 A sparse matrix
    Mixtures need dense data: pass `x.toarray()`, or save a dense array.
E205 Masked values
    Some values of the masked array are masked. Fill them or drop those rows.
E206 Rows of different lengths
    The data are no rectangular table. Give every row the same length.
E207 Not a table
    Data are tables with one sample per row and one feature per column: two axes. One feature is `x.reshape(-1, 1)`,
    one sample `x.reshape(1, -1)`.
E208 A table without rows or columns
    There is nothing to work on. Give at least one row and one column.
E209 Too few rows
    What is asked for needs more rows. Add rows or ask for less.
E210 Another number of columns
    The data have more or fewer columns than the model, the start or the first data set. Give the same columns in the
    same order.
E211 Fewer rows than components
    Every component needs a row of positive weight. Ask for fewer components or add rows.
E212 Fewer occupied orthants than components
    The orthant start makes one component of each of the fullest orthants about the mean, and too few hold data. Ask
    for fewer components or use another start.
E213 Other column names than at fit
    The data frame has other columns than the one that the estimator was fitted on, or another order.
E214 Column names of mixed types
    Make all column names of the data frame text: `x.columns.astype(str)`.
E220 Not one weight a row
    `sample_weight` must be one number for every row of the data.
E221 A negative weight
    Weights say how often a row counts and are at least 0. Correct or drop the row.
E222 All weights are zero
    No row counts. At least one weight must be positive.
E223 Weights too large or too small for the precision
    Their sum overflows, or parts of them underflow. Divide the weights by their mean.
E230 Not one label a row
    Labels and groups are one value for every row. Give as many as there are rows.
E231 Labels of different kinds
    The labels mix values that cannot be sorted. Use one kind, such as text.
E232 A row without a label
    The label or group of a row is missing. Fill it in or drop the row.
E233 Only one cluster
    The silhouette compares clusters and all rows belong to one. Use another criterion.
E234 A weight that is no repetition
    The silhouette counts a weight as repetitions of its row, so weights below 1 have no meaning there. Give whole
    numbers or choose another criterion.
E235 Too many different labels
    Labels are matched one to one. Give cluster labels, not measurements.
E240 Parameters whose shapes disagree
    Weights are (K), means (K, D), and covariances have the shape of their family; scales, shifts and names are one
    per column.
E241 Parameters that are not finite
    A weight, mean or covariance is NaN or infinite. Give finite numbers.
E242 Weights that are no proportions
    The weights of a mixture are at least 0 and sum to 1.
E243 A covariance or precision that is not positive definite
    Covariance matrices are symmetric with eigenvalues above 0. Raise the diagonal.
E244 A scale that is not positive
    Columns are divided by their scale. Use 1 for a constant column.
E245 Negative responsibilities
    Responsibilities are the shares of each row in each component, at least 0.
E246 A component without rows
    No row belongs to a component of the start that is made from labels, responsibilities or means. Leave the
    component out, or move it into the data.
E250 Rows that can be read only once
    EM goes over its data again and again, and an iterator or a generator is used up after the first time. Give a list
    of arrays, or an object whose `__iter__` begins anew each time.
E251 Files or arrays with other columns than the first
    All parts of one data set have the same columns in the same order, and the same names where they have names. The
    message says which part differs, and in what.
E252 Data that changed during the fit
    A file vanished, became shorter or was written to, or a source gave other rows than in the first pass, or NaN. Leave
    the data as they are while they are in use, and fit again.
E301 No start gave a usable model
    Every restart ended without a finite likelihood: mostly because a covariance is singular at the very start, with
    `reg_covar` 0 and constant or repeated columns or few distinct rows. Raise `reg_covar`, use fewer components or a
    simpler covariance type, standardize the data.
E302 Covariances too large or too small for the precision
    The data reach so far from their mean, or so little, that their squares overflow or underflow. Divide the data by
    the number that is named.
E303 A component has an ill-defined covariance
    `GaussianMixture` refuses a fit in which a covariance became singular, as scikit-learn does. Decrease the number
    of components, increase `reg_covar`, scale the data, or pass float64.
E304 No group could be fitted
    `fit-many` has nothing to write. The reason of the first group is shown.
E305 The self-check failed
    One EM step with a known answer came out wrong: this installation computes wrongly. Reinstall jax and jaxlib in
    matching versions.
E307 A degenerate component
    With `degenerate="raise"`: a component lost all its rows, or has a covariance that only `reg_covar` holds up. Ask
    for fewer components, drop duplicate rows and constant columns, or let `degenerate` keep, drop or revive it.
E401 A file that does not exist
    The nearest name in the directory is suggested. Correct the path.
E402 A directory where a file is needed
    Name a file in it.
E403 A file that cannot be read
    The system refuses to open it. Check its permissions.
E404 An empty file
    It holds no bytes, or no rows below its header. Give a file with one sample per row.
E405 A format that is not read
    Read are .npy, .npz, MATLAB files up to 7.2, and text with commas, semicolons, tabs or blanks. Convert the file to
    .npy or .csv.
E406 Not what its name says
    The ending says .npy or .npz, but the content is something else.
E407 A damaged or incomplete file
    The file was cut short or changed: copy it again from where it is whole, or save it again.
E408 Bytes after the array
    The .npy file goes on after its array. Save one array per file.
E409 MATLAB files need scipy
    Install it with `pip install 'jaxgmm[data]'`, or convert the file to .npy.
E410 Which array of the file?
    The file holds no usable array, none of that name, or several. Name one: `file.npz:name`.
E411 Python objects in a file
    Pickles can run code and are never opened. Save plain numbers.
E412 An array that holds no real numbers
    Save the samples as an array of floating-point numbers.
E413 An archive that unpacks to far more than it holds
    Opening it would fill the memory, so it is not unpacked. If it is no trap, save the array with `numpy.save`.
E420 A line with another number of fields
    Every line of a text file has as many fields as the first. The line and its first wrong column are named, columns
    counted from 0. Correct the line or remove it.
E421 A line that cannot be parsed
    The table reader stopped here for the reason it gives. Correct that row.
E422 A missing value in a text file
    The cell is empty or says NA. Fill in the value or remove the line.
E423 Text in a column of numbers
    The cell is no decimal number. Correct it; a decimal comma becomes a point; a column of words can be left out with
    `--drop` or read as labels.
E424 Not UTF-8 text
    The file is in another encoding. Save it as UTF-8, or as .npy.
E425 A quote that is not closed
    A quoted cell must end on its own line. Close the quote or remove it.
E426 A header, or a row?
    The first line mixes words and numbers. Say which with `--header` or `--no-header` (in Python `header=True`).
E430 Not a model file
    Give a file that `jaxgmm.save`, `jaxgmm fit` or `jaxgmm sweep` has written.
E431 A model file without a usable model
    Its parameters are those of no mixture. Save the model again.
E432 A model file that was changed
    Its digest is not that of its content: something altered it after it was written. Copy or save it again.
E433 A model file from a newer version
    Upgrade: `pip install --upgrade jaxgmm`.
E434 Checkpoints that cannot be read
    All checkpoints in the directory are damaged. Remove them and begin again.
E435 A checkpoint of another run
    The data or an option are not those of the run that made the checkpoint; the message names the difference. Give the
    same again, or another directory.
E440 A file that cannot be written
    The disk is full, or the place does not allow it. What was there before is unchanged. Free some space or choose
    another place.
E501 Not valid TOML
    The line and column are named. Text values need quotes, tables a [section].
E502 Unknown section
    The sections are [data] and one named after a command, such as [fit].
E503 Not exactly one command
    A configuration describes one job: one section named after a command.
E504 Data for a command that reads none
    Remove the section [data].
E505 A key outside of a section
    Put it under [data] or under the command.
E506 Unknown key
    The keys are the options of the command with underscores. The nearest is suggested.
E507 A key in the wrong section
    What to read stands under [data], all else under the command.
E901 A bug
    An error that was not foreseen. Report it with the lines that are printed above it.
E902 Out of memory
    Use fewer restarts or components, `--dtype float32`, or a part of the rows.
E903 Interrupted
    The run was stopped by Ctrl-C. The shell exits with 130.
E904 A fit that `--strict` does not accept
    Everything is written and printed, but a fit has not converged, was stopped early, or is degenerate, as the warning
    before it says. The shell exits with 4.
E905 A process of the run is lost
    Of several processes that work on one fit, one has died or cannot be reached. The others save their state and exit
    with 75; the same command with `--resume auto` goes on, also with another number of processes.
E906 No device to compute on
    JAX finds none of the platforms that `JAX_PLATFORMS` names, for example because the plugin for the GPU is missing.
    Unset it, or install the plugin: `pip install 'jax[cuda13]'`.
W101 Compiled programs are not kept
    The directory named by JAXGMM_CACHE_DIR cannot be used. Results are the same; every run compiles anew.
W201 Column names on one side only
    The estimator was fitted with column names and the data have none, or the reverse. Pass the same kind of table.
W301 Not converged
    `max_iter` was reached first. The best state so far is kept. Raise `max_iter` or `tol`, or try another start. With
    `--strict` the shell exits with 4.
W302 Stopped early
    A covariance became singular, or the likelihood fell or was no longer finite; the best sound state is kept. Raise
    `reg_covar`, use fewer components, or standardize the data. With `--strict` the shell exits with 4.
W303 A component lost all its rows
    Its weight is 0, so the mixture has fewer components than asked for. Ask for fewer, or try another start. With
    `--strict` the shell exits with 4.
W304 The best count is at the edge of the range
    Better counts may lie beyond the smallest or largest one tried. Widen the range.
W305 No silhouette
    All rows belong to one component. Ask for more components.
W306 Some groups could not be fitted
    `fit-many` kept the others; the column status says which failed. Ask for fewer components or leave these groups
    out. With `--strict` the shell exits with 4.
W307 A degenerate component
    A component rests on too few distinct rows, or its covariance is held up by `reg_covar` alone. Look at the diagnoses
    of the model. Ask for fewer components, or drop duplicate rows and constant columns. With `--strict` the shell exits
    with 4.
W308 A floor that is not small
    `reg_covar` of `GaussianMixture` is absolute, as in scikit-learn, and here it is more than a thousandth of the
    variance of a column, so that it changes the covariances. Standardize the data or lower it. In `fit` it is relative.
W309 Interrupted, and kept
    The first Ctrl-C or SIGTERM ends a fit and keeps the best state so far, the second ends the process at once. Go on
    from what was written with `--init-from` or, with checkpoints, with the same command and `--resume auto --force`.
W310 No new checkpoint
    The directory of the checkpoints cannot be written to, for example because the disk is full. The fit goes on, and
    the last checkpoint is whole; it is tried again after the usual time.
W311 Something in the way
    `jaxgmm doctor` found a variable or a missing package that is likely to stop or to slow down a run. The message says
    what, and what to do.
W312 No comparison
    The rows or the model do not suit the other method, or its package is missing. The fit itself is complete.
W313 No pictures
    Pictures are drawn with matplotlib, which is not installed or finds no place to draw. All else is written.
W901 A warning of a library
    Passed on as it is, without a line of somebody's source.
"""


ENTRIES = tuple(
    Entry(code, title, " ".join(text.split()))
    for code, title, text in re.findall(r"^(\w+) (.+)\n((?:    .+\n)+)", _TABLE, re.MULTILINE)
)
CATALOGUE = {entry.code: entry for entry in ENTRIES}
