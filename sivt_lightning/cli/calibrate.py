"""`sivt calibrate`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sivt_lightning.cli.arguments import parse, verb_parser
from sivt_lightning.cli.quiet import quiet_lightning
from sivt_lightning.errors import SIVTError
from sivt_lightning.files import writable_folder


def run(args: Sequence[str]) -> int:
    """`sivt calibrate --ckpt_path FILE --good FOLDER`: the model with a calibration by these photos."""
    parser = verb_parser("calibrate")
    parser.add_argument("--ckpt_path", type=str, required=True, help="A .ckpt, .xml (OpenVINO), .onnx or .pt2 file.")
    text = (
        "Good photos: a folder of products, of one product, or a list saved from report.html. Default: the training's."
    )
    parser.add_argument("--good", type=str | None, help=text)
    text = "Photos of defects, laid out likewise: how many of them are found, and at what price."
    parser.add_argument("--defects", type=str | None, help=text)
    text = "The product that all these photos show; one that the model does not know yet is added."
    parser.add_argument("--category", type=str | None, help=text)
    text = "Share of good parts that may be called anomalous. Default: as before, or 0.05."
    parser.add_argument("--false_alarms", type=float | None, help=text)
    text = "File to write. Default: beside the model, with -calibrated in its name."
    parser.add_argument("--output", type=str | None, help=text)
    parser.add_argument("--overwrite", action="store_true", help="Replace what is there.")
    parser.add_argument("--device", type=str | None, help="Where the model runs, as Predictor has it.")
    settings = parse(parser, args)
    from sivt_lightning.inference.calibrated import write_calibrated
    from sivt_lightning.inference.calibration import FALSE_ALARMS, check_share
    from sivt_lightning.inference.good_photos import GoodPhotos
    from sivt_lightning.inference.models import open_model
    from sivt_lightning.inference.photo_lists import defects_of, is_list, read_list
    from sivt_lightning.inference.recalibration import found_of, moved

    quiet_lightning()
    source = Path(settings.ckpt_path)
    target = Path(settings.output) if settings.output else source.with_stem(f"{source.stem}-calibrated")
    if target.suffix != source.suffix:
        raise SIVTError(f"output {target}: a model like {source.name} ends in {source.suffix}.")
    model = open_model(source, settings.device)
    about, before = model.about, model.about.calibration
    share = settings.false_alarms
    share = (before.false_alarms if before else FALSE_ALARMS) if share is None else check_share(share)
    writable_folder(target.parent)
    if target.exists() and not settings.overwrite:
        raise SIVTError(f"{target} exists: add --overwrite to replace it, or name another file with --output.")
    defects: Mapping[str | None, list[Path]] = {}
    if settings.good is None:
        if settings.category is not None:
            raise SIVTError(f"category {settings.category} is what the photos of --good show: give them, too.")
        photos = GoodPhotos.of_training(about)
    elif is_list(settings.good):
        listed = read_list(Path(settings.good), settings.category)
        photos, defects = GoodPhotos.listed(about, listed.good, settings.good), listed.defects
    else:
        photos = GoodPhotos.elsewhere(about, settings.good, settings.category)
    if settings.defects is not None:
        defects = defects_of(settings.defects, settings.category, photos.products)
    print(f"Calibrating {source} with {photos.counted()}.", flush=True)
    measured = photos.measure(model, share)
    calibration = measured if before is None or settings.good is None else before.renewed(measured)
    write_calibrated(source, calibration, target)
    for line in moved(before, calibration, photos.products):
        print(line)
    if said := calibration.promise(photos.products):
        print(said)
    if defects:
        for line in found_of(model, calibration, photos, defects):
            print(line)
    print(f"Written: {target}\nNext:\n  sivt predict --ckpt_path {target} --data.predict_path FOLDER_OF_PHOTOS")
    return 0
