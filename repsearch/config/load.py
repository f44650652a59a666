"""Reading a configuration: from YAML files or a mapping, checked as a whole before anything runs."""

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from repsearch import extensions
from repsearch.config import alternatives
from repsearch.config.parsing import MISSING, check_plain, parse
from repsearch.config.resolve import Resolved
from repsearch.config.schema import Config, Dataset
from repsearch.data.sources import Size, is_code, known_size
from repsearch.errors import UserError, reason
from repsearch.search.recipe import OPERATORS

MOST_SHARDS = 9999  # per data set: four digits in the files' names
INPUTS = {
    "figure8": "compute",
    "cycles": "cycles",
    "ensembles": "ensembles",
    "gallery": "gallery",
    "curves": "tables",
}  # of figures that nothing else will do for
FIGURES = Path(__file__).parents[1] / "results" / "figures"


def read(*paths: Path) -> Config:
    """The configuration of YAML files, later ones overriding earlier ones, as Snakemake merges them."""
    merged: dict[str, Any] = {}
    for path in paths:
        try:
            overlay = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{path} does not exist{_like(path)}") from None
        except Exception as error:  # yaml's own errors, what its constructors let through, and too deep a nesting
            raise UserError(f"{path} can't be read as YAML: {reason(error)}") from None
        if not isinstance(overlay, dict):
            raise UserError(f"{path} must hold a mapping of settings")
        merged = merge(merged, overlay)
    try:
        return load(merged)
    except UserError as error:
        if MISSING in str(error) and all(Path(path).name != "config.yaml" for path in paths):
            raise UserError(f"{error}\nGive config.yaml first: presets and other overlays go on top of it") from None
        raise


def _like(path: Path) -> str:
    """Which file of a folder a path that does not exist is like; nothing where it is like none."""
    names = [each.name for each in path.parent.glob("*.yaml")]
    return "".join(f": did you mean {path.parent / name}?" for name in get_close_matches(path.name, names, 1))


def merge(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `overlay`: mappings are merged, everything else is replaced."""
    merged = dict(base)
    for key, value in overlay.items():
        nested = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if nested else value
    return merged


def load(raw: Mapping[str, Any]) -> Config:
    """Check a configuration. Raises UserError: one line per mistake, each naming the key."""
    check_plain(raw)
    config = parse(Config, raw, "")
    _check_names(config)
    _check_settings(config)
    _check_counts(config)
    return config


def shards(config: Config, dataset: str, images: int) -> int:
    """How many shards hold that many images. Raises UserError where the files' names have no room for them."""
    count = -(-images // config.shard_images)
    if count > MOST_SHARDS:
        raise UserError(f"shard_images: {config.shard_images} makes {count} shards of {dataset}, over {MOST_SHARDS}")
    return count


def named_code(config: Config) -> dict[str, str]:
    """The user code that a configuration names: key → `module:function`. Nothing of it is run."""
    sources = {f"datasets.{name}.source": entry.source for name, entry in config.datasets.items()}
    operators: dict[str, str] = {}
    for name, recipe in config.recipes.items():
        operators |= {f"recipes.{name}.{field}": recipe[field] for field in OPERATORS if field in recipe}
    named = {key: operator for key, operator in operators.items() if extensions.is_reference(operator)}
    return {key: source for key, source in sources.items() if is_code(source)} | named


def _check_names(config: Config) -> None:
    """Raise UserError where a name stands for nothing, or for something of the wrong kind."""
    tables = {1: config.table1, 2: config.table2}
    drawn: Any = {key: getattr(config, key) for key in ("figure2", "figure3", "figure4", "trajectories")}
    used: list[tuple[str, list[str], Mapping[str, Any]]] = [
        *[(f"table{n}.datasets", table.datasets, config.datasets) for n, table in tables.items()],
        *[(f"table{n}.variants", table.variants, config.variants) for n, table in tables.items()],
        *[(f"{key}.dataset", [section.dataset], config.datasets) for key, section in drawn.items()],
        ("gallery.dataset", [config.gallery.dataset] if config.gallery.dataset else [], config.datasets),
        ("figure4.variant", [config.figure4.variant], config.variants),
        ("trajectories.variants", config.trajectories.variants, config.variants),
        *[(f"datasets.{name}.recipe", [entry.recipe], config.recipes) for name, entry in config.datasets.items()],
    ]
    if config.images is not None:
        used += [
            ("images.datasets", config.images.datasets, config.datasets),
            ("images.variants", config.images.variants, config.variants),
        ]
    elif "images" in config.figures.values():
        raise UserError("images: must name data sets and variants, since a figure is drawn from them")
    used += _beyond_names(config)
    study = config.readings
    if study is not None:
        used += [
            ("readings.datasets", study.datasets, config.datasets),
            ("readings.variants", study.variants, config.variants),
            ("readings.baseline", [study.baseline], config.variants),
            ("readings.recipes", [*study.recipes], config.datasets),  # of which the study may be of a part
            *[(f"readings.recipes.{name}", names, config.recipes) for name, names in study.recipes.items()],
        ]
    for key, names, defined in used:
        for name in names:
            if name not in defined:
                raise UserError(f"{key}: {name!r} is not defined (there are {', '.join(defined)})")
    learns = {name: settings.learns for name, settings in config.variants.items()}
    if learns[config.figure4.variant] != "targets":
        raise UserError("figure4.variant: must be a variant that learns targets")
    for key, section in (("readings", study), ("compute", config.compute)):
        for variant in section.variants if section else ():
            if learns[variant] != "targets":
                raise UserError(f"{key}.variants: {variant} must learn targets")
        if section and learns[section.baseline] != "labels":
            raise UserError(f"{key}.baseline: {section.baseline} must learn labels")
    _check_beyond(config, learns)
    if alternatives.NO_RECIPE in config.recipes:
        raise UserError("recipes.none: 'none' stands for no recipe in the results' paths; choose another name")
    for figure, inputs in config.figures.items():
        if INPUTS.get(figure, inputs) != inputs:
            raise UserError(f"figures.{figure}: is drawn from {INPUTS[figure]}, not from {inputs}")
        if not (FIGURES / f"{figure}.py").is_file():
            raise UserError(f"figures.{figure}: there is no such file as repsearch/results/figures/{figure}.py")


def _beyond_names(config: Config) -> list[tuple[str, list[str], Mapping[str, Any]]]:
    """(key, names, what they must be among) of the sections that go beyond the paper."""
    for section in ("compute", "cycles", "ensembles"):
        if section in config.figures.values() and getattr(config, section) is None:
            raise UserError(f"{section}: must say what is compared, since a figure is drawn from it")
    used: list[tuple[str, list[str], Mapping[str, Any]]] = []
    if config.compute is not None:
        used += [
            ("compute.datasets", config.compute.datasets, config.datasets),
            ("compute.variants", config.compute.variants, config.variants),
            ("compute.baseline", [config.compute.baseline], config.variants),
        ]
    chains = config.cycles.chains if config.cycles else {}
    if config.cycles is not None:
        used.append(("cycles.datasets", config.cycles.datasets, config.datasets))
    for name, chain in chains.items():
        used.append((f"cycles.chains.{name}", [chain.first, chain.then], config.variants))
        used.append((f"cycles.chains.{name}.recipe", [chain.recipe] if chain.recipe else [], config.recipes))
    if config.ensembles is not None:
        used.append(("ensembles.datasets", config.ensembles.datasets, config.datasets))
        for name, kind in config.ensembles.kinds.items():
            key = f"ensembles.kinds.{name}"
            if kind.chain is not None:
                used.append((f"{key}.chain", [kind.chain], chains))
                cycled = dict.fromkeys(config.cycles.datasets if config.cycles else ())
                used.append((f"{key}: cycles.datasets", config.ensembles.datasets, cycled))
            if kind.variant is not None:
                used.append((f"{key}.variant", [kind.variant], config.variants))
    return used


def _check_beyond(config: Config, learns: Mapping[str, str]) -> None:
    """Raise UserError where chains and ensembles can't be made. learns: what each variant learns."""
    cycles, ensembles = config.cycles, config.ensembles
    for name, chain in cycles.chains.items() if cycles else ():
        if (chain.recipe is None) != (learns[chain.then] == "labels"):
            what = "labels, where there is no recipe" if chain.recipe is None else "targets or logits, from a recipe's"
            raise UserError(f"cycles.chains.{name}.then: must be a variant that learns {what}")
    for name, kind in ensembles.kinds.items() if ensembles else ():
        if kind.over == "searches" and kind.variant and learns[kind.variant] == "labels":
            raise UserError(f"ensembles.kinds.{name}: {kind.variant} learns labels, so that there are no searches")
        if kind.chain and cycles and ensembles and cycles.seeds < ensembles.repeats:
            raise UserError(f"ensembles.repeats: must be at most cycles.seeds, as many as the chain {kind.chain} has")


def _check_settings(config: Config) -> None:
    """Resolve every recipe, variant and training setting, so that a mistake is found before anything runs."""
    resolved = Resolved(config)
    datasets, variants = config.datasets, config.variants
    _check_all(
        [
            *[partial(resolved.recipe, name) for name in config.recipes],
            *[partial(resolved.variant, variant) for variant in variants],
            *[partial(resolved.network, dataset) for dataset in datasets],
            *[partial(resolved.training, dataset, variant) for dataset in datasets for variant in variants],
        ]
    )
    _ = resolved.recipes
    _check_cycles(config, resolved)
    for dataset in config.datasets:
        for variant in resolved.alternative_training:
            resolved.training(dataset, variant)
    for key, reference in named_code(config).items():
        try:
            extensions.check(reference)
        except UserError as error:
            raise UserError(f"{key}: {error}") from None


def _check_all(checks: Sequence[Callable[[], object]]) -> None:
    """Raise UserError with the lines of all checks that fail, each once."""
    said: dict[str, None] = {}
    for check in checks:
        try:
            check()
        except UserError as error:
            said |= dict.fromkeys(str(error).removeprefix("configuration: ").splitlines())
    if said:
        raise UserError("configuration: " + "\n".join(said))


def _check_cycles(config: Config, resolved: Resolved) -> None:
    """Raise UserError where chains and ensembles would fail after hours, or be of no use."""
    chains = config.cycles.chains if config.cycles else {}
    used = [(f"cycles.chains.{name}", [chain.first, chain.then]) for name, chain in chains.items()]
    used += [
        (f"ensembles.kinds.{name}", [kind.variant])
        for name, kind in (config.ensembles.kinds if config.ensembles else {}).items()
        if kind.variant is not None
    ]
    datasets = [
        *(config.cycles.datasets if config.cycles else []),
        *(config.ensembles.datasets if config.ensembles else []),
    ]
    for key, variants in used:
        for dataset in datasets:
            for variant in variants:
                if resolved.training(dataset, variant).evaluation != "batch":
                    raise UserError(f"{key}: {variant} must have training.evaluation: batch")
    for name, chain in chains.items():
        for dataset in config.cycles.datasets if config.cycles else ():
            if chain.recipe is None and resolved.training(dataset, chain.then).start != "search":
                why = "without a recipe, every cycle would be the same"
                raise UserError(f"cycles.chains.{name}: {chain.then} must have training.start: search: {why}")
        if chain.recipe is not None and config.search_path == "fused":
            raise UserError(f"search_path: 'fused' can't search the learned networks of cycles.chains.{name}: set auto")


def _check_counts(config: Config) -> None:
    """Raise UserError where more images are asked for than there are, as far as that is known without reading files."""
    counts: dict[str, int] = {}  # data set → training images, held-out ones included
    for name, entry in config.datasets.items():
        try:
            known = known_size(entry.source)
        except UserError as error:
            raise UserError(f"datasets.{name}.source: {error}") from None
        if is_code(entry.source) and entry.images is None:
            raise UserError(f"datasets.{name}.images: must be given for a source that is code ({entry.source})")
        check_split(name, entry, known)
        images = entry.images or (known and known.train)
        if images is not None:
            counts[name] = images
            shards(config, name, images)
    for key, figure in (("figure2", config.figure2), ("figure3", config.figure3)):
        if figure.dataset in counts:
            check_figure(key, config, counts[figure.dataset])


def check_split(name: str, entry: Dataset, size: Size | None) -> None:
    """Raise UserError, naming the key, where a data set can't be split as its settings say.

    name: the data set's; size: its source's, None if it is unknown.
    """
    key = f"datasets.{name}"
    for part, wanted, available in (
        ("images", entry.images, size and size.train),
        ("test_images", entry.test_images, size and size.test),
    ):
        if available is not None and (wanted or 0) > available:
            raise UserError(f"{key}.{part}: {wanted} asked for, but {entry.source} has {available}")
    images = entry.images or (size and size.train)
    if images is None:
        return
    left = images - entry.validation_images
    if left <= 0:
        raise UserError(
            f"{key}.validation_images: {entry.validation_images} leaves none of {images} images to train on"
        )
    if size is not None and size.classes is not None and left < size.classes:
        raise UserError(
            f"{key}.validation_images: {entry.validation_images} leaves {left} of {images} images to train on, fewer "
            f"than the {size.classes} classes"
        )


def check_figure(key: str, config: Config, images: int) -> None:
    """Raise UserError where figure 2 or 3, the section `key`, asks for more images than there are to train on.

    images: of its data set, held-out ones included.
    """
    figure = config.figure2 if key == "figure2" else config.figure3
    available = images - config.datasets[figure.dataset].validation_images
    if figure.images > available:
        raise UserError(f"{key}.images: {figure.images} asked for, but {figure.dataset} has {available} to train on")
