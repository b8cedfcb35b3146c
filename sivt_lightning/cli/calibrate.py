"""`sivt calibrate`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sivt_lightning.cli.arguments import parse, verb_parser
from sivt_lightning.cli.quiet import quiet_lightning
from sivt_lightning.errors import SIVTError, listing
from sivt_lightning.files import writable_folder

if TYPE_CHECKING:  # what loads torch waits until the arguments are understood
    from sivt_lightning.inference.about import About
    from sivt_lightning.inference.good_photos import GoodPhotos
    from sivt_lightning.inference.marked_photos import Marked
    from sivt_lightning.inference.photo_lists import Defects


def parse_settings(args: Sequence[str]) -> Any:
    """From flags. Raises SIVTError where they go not together."""
    parser = verb_parser("calibrate")
    parser.add_argument("--ckpt_path", type=str, required=True, help="A .ckpt, .xml (OpenVINO), .onnx or .pt2 file.")
    text = (
        "Good photos: a folder of products, of one product, a list saved from report.html, or the --state of a server. "
        "Default: the training's."
    )
    parser.add_argument("--good", type=str | None, help=text)
    text = "Photos of defects, laid out likewise: how many of them are found, and at what price."
    parser.add_argument("--defects", type=str | None, help=text)
    parser.add_argument("--category", type=str | None, help="The product that all these photos show.")
    text = "Also add products that the model does not know. It finds few of their defects: rather train it with them."
    parser.add_argument("--add", action="store_true", help=text)
    text = "Share of good parts that may be called anomalous. Default: as before, or 0.05."
    parser.add_argument("--false_alarms", type=float | None, help=text)
    text = "File to write. Default: beside the model, with -calibrated in its name."
    parser.add_argument("--output", type=str | None, help=text)
    parser.add_argument("--overwrite", action="store_true", help="Replace what is there.")
    parser.add_argument("--device", type=str | None, help="Where the model runs, as Predictor has it.")
    settings = parse(parser, args)
    source = Path(settings.ckpt_path)
    if not source.name:
        raise SIVTError(f"ckpt_path {settings.ckpt_path!r} is no file: give a model's.")
    settings.output = Path(settings.output) if settings.output else source.with_stem(f"{source.stem}-calibrated")
    if settings.output.suffix != source.suffix:
        raise SIVTError(f"output {settings.output}: a model like {source.name} ends in {source.suffix}.")
    if settings.good is None and settings.category is not None:
        raise SIVTError(f"category {settings.category} is what the photos of --good show: give them, too.")
    return settings


def run(args: Sequence[str]) -> int:
    """`sivt calibrate --ckpt_path FILE --good FOLDER`: the model with a calibration by these photos."""
    settings = parse_settings(args)
    from sivt_lightning.data.roi import other_regions
    from sivt_lightning.inference.calibrated import check_free, write_calibrated
    from sivt_lightning.inference.calibration import FALSE_ALARMS, check_share
    from sivt_lightning.inference.models import open_model
    from sivt_lightning.inference.recalibration import confirmed, found_of, learned, moved, said_of

    quiet_lightning()
    source, target = Path(settings.ckpt_path), settings.output
    model = open_model(source, settings.device)
    before = model.about.calibration
    kept = before.false_alarms if before else FALSE_ALARMS
    share = kept if settings.false_alarms is None else check_share(settings.false_alarms)
    writable_folder(target.parent)
    check_free(target, settings.overwrite)
    photos, defects, marked = _photos(model.about, settings)
    if before is None and len(photos.held_out) + len(photos.trained) == len(photos.products):
        raise SIVTError("One photo of a product does not tell how its good parts vary: give more, better dozens.")
    known = model.about.inspection.regions
    for sentence in [
        *(marked.left_out if marked else ()),
        *other_regions([*photos.held_out, *photos.trained], known, model.about.image_size),
    ]:
        print(sentence)
    print(f"Calibrating {source} with {photos.counted()}.", flush=True)
    calibration = photos.measure(model, share)
    if before is not None and settings.good is not None:
        calibration = before.renewed(calibration)
    said = said_of(model, calibration, photos, defects)  # before anything is written
    found = list(found_of(calibration, said)) if defects else []
    if marked is not None:
        found += confirmed(before, calibration, marked, said)
    write_calibrated(source, calibration, target)
    print(*moved(before, calibration, photos.products), sep="\n")
    if promise := calibration.promise(photos.products):
        print(promise)
    for line in filter(None, [learned(model.about, photos) if settings.good else "", *found]):
        print(line)
    following = f"sivt predict --ckpt_path {target} --data.predict_path FOLDER_OF_PHOTOS"
    if marked is not None:
        following = f"sivt serve --model {target} --state {settings.good}"
    print(f"Written: {target}\nNext:\n  {following}")
    return 0


def _photos(about: "About", settings: Any) -> "tuple[GoodPhotos, Defects, Marked | None]":
    """Good ones, those of defects, and both as a server's marks say."""
    from sivt_lightning.data.lists import is_list
    from sivt_lightning.data.urls import path_of
    from sivt_lightning.inference.good_photos import GoodPhotos
    from sivt_lightning.inference.marked_photos import need_good, read_marked
    from sivt_lightning.inference.photo_lists import Defects, defects_of, read_list
    from sivt_lightning.state.reading import is_state

    defects, marked = Defects(), None
    if settings.good is None:
        photos = GoodPhotos.of_training(about)
    elif is_list(settings.good):
        listed = read_list(path_of(settings.good), settings.category)
        photos, defects = GoodPhotos.listed(about, listed.good, settings.good), listed.defects
    elif is_state(path_of(settings.good)):
        marked = read_marked(path_of(settings.good), settings.category)
        need_good(marked, path_of(settings.good))
        photos, defects = GoodPhotos.marked(about, marked.good, settings.good), marked.defects
    else:
        photos = GoodPhotos.elsewhere(about, settings.good, settings.category)
    strange = sorted(set(photos.products) - set(about.categories)) if about.categories else []
    if strange and not settings.add:
        raise SIVTError(
            f"good {settings.good} shows {listing(strange)}, but the model knows {', '.join(about.categories)}. Say "
            "which of these it is with --category, name its folder so, or add a product with --add."
        )
    known = {*photos.products, *(about.calibration.products if about.calibration else ())}
    if settings.defects is not None:
        for name, paths in defects_of(settings.defects, settings.category, known).items():
            defects.setdefault(name, []).extend(paths)
    if foreign := sorted(name for name in defects if name is not None and name not in known):
        raise SIVTError(
            f"The list has defects of {listing(foreign)}, but what is calibrated is {listing(sorted(known))}: name one "
            "of these, or leave the product empty to have it recognised."
        )
    return photos, defects, marked
