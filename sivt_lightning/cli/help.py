"""What each command's --help says before it lists every option."""

from collections.abc import Sequence
from typing import NamedTuple

from jsonargparse import DefaultHelpFormatter

WIDTH = 26  # of the column of options


class Help(NamedTuple):
    """Of one command: a line, what more there is to know, the options that matter first, what to type."""

    line: str
    more: str
    usage: str
    first: Sequence[tuple[str, str]]
    examples: Sequence[str]

    def description(self) -> str:
        """The text above the options."""
        lines = [f"{self.line} {self.more}".strip(), "", "These matter first:"]
        lines += [f"  {option:{WIDTH}}{what}" for option, what in self.first]
        lines += ["", "For example:", *(f"  {example}" for example in self.examples)]
        return "\n".join(lines)


HELP: dict[str, Help] = {
    "fit": Help(
        "Trains one model on photos of good parts.",
        "Give it a folder with one sub-folder of photos for each product.\n"
        "It starts with a table of what it found there, and ends by saying where the model is and what to type next.",
        "sivt fit --config FILE --data.root FOLDER [options]",
        (
            ("--config", "settings to start from, a file or a shipped name; small suits a machine without a GPU"),
            ("--data.root", "folder of the products"),
            ("--model.weights", "file of the network's ImageNet weights, or package: where there is no internet"),
            ("--trainer.max_epochs", "how often it looks at each photo"),
            ("--ckpt_path", "a last.ckpt: goes on with a training that was stopped"),
        ),
        (
            "sivt fit --config small --data.root photos",
            "sivt fit --ckpt_path runs/small/version_0/checkpoints/last.ckpt",
        ),
    ),
    "test": Help(
        "Measures a trained model on photos that are known to be good or defective.",
        "They lie in PRODUCT/test/good (or ok,\nnormal, pass) and PRODUCT/test/DEFECT, masks of the defects, "
        "if there are any, in PRODUCT/ground_truth/DEFECT.",
        "sivt test --ckpt_path FILE [options]",
        (
            ("--ckpt_path", "the model, such as runs/small/version_0/checkpoints/best.ckpt"),
            ("--data.root", "folder of the products; default: the one it was trained on"),
            ("--output", "folder of report.html and the tables; default: test/ beside the model's checkpoints"),
            ("--false_alarms", "share of good parts that may be called anomalous, such as 0.01"),
            ("--threshold_by", "category: take the product from the folder, instead of recognising it"),
        ),
        ("sivt test --ckpt_path runs/small/version_0/checkpoints/best.ckpt",),
    ),
    "predict": Help(
        "Looks at any photos and says which are anomalous, and where.",
        "Open report.html of the results in a browser.",
        "sivt predict --ckpt_path FILE --data.predict_path FOLDER_OR_PHOTO [options]",
        (
            ("--ckpt_path", "the model, such as runs/small/version_0/checkpoints/best.ckpt"),
            ("--data.predict_path", "folder of photos, with its sub-folders, or one photo, or several of these"),
            ("--output", "folder of the results; default: predictions/ and the name of the photos' folder"),
            ("--false_alarms", "share of good parts that may be called anomalous, such as 0.01"),
            ("--resume", "go on with a run into the same folder that was stopped"),
        ),
        (
            "sivt predict --ckpt_path best.ckpt --data.predict_path photos",
            "sivt predict --ckpt_path best.ckpt --data.predict_path photos --output results --resume",
        ),
    ),
    "compare": Help(
        "Lays the figures of several tests side by side and marks the best of each row.",
        "Tests that differ only in\nseed become one column: their mean and standard deviation.",
        "sivt compare TEST TEST ... [options]",
        (
            ("tests", "folders of runs that were tested, or their metrics.json"),
            ("--categories", "true: also a row for each product"),
            ("--figures", "rows to show, such as [image_auroc,pixel_ap]"),
            ("--output", "also write the table into a file, .md or .csv"),
        ),
        ("sivt compare runs/small/version_0 runs/small/version_1 --categories true --output table.md",),
    ),
    "experiment": Help(
        "Trains and tests every row of a table of settings and lays the results side by side.",
        "Stopped and started again\nit goes on where it was; what is done is not done again.",
        "sivt experiment FILE ... --root FOLDER [options]",
        (
            ("files", "tables of settings, files or names of shipped ones, such as groups"),
            ("--root", "folder of the products"),
            ("--weights", "weight file of the network, or NAME=package: where there is no internet"),
            ("--seeds", "instead of the seeds that the files name"),
            ("--output", "folder of trainings and tables; default: runs/experiments"),
        ),
        ("sivt experiment groups --root datasets/MVTecAD --weights b4.safetensors",),
    ),
    "export": Help(
        "Writes a trained model as one file for another runtime, with a JSON file of what goes with it.",
        "openvino is the\nfastest on processors, onnx runs nearly everywhere.",
        "sivt export --ckpt_path FILE --format FORMAT [options]",
        (
            ("--ckpt_path", "the model, such as runs/small/version_0/checkpoints/best.ckpt"),
            ("--format", "onnx, openvino or torch"),
            ("--precision", "fp32; bf16 or int8 for speed, at scores that differ in the third digit"),
            ("--output", "file to write; default: beside the model"),
            ("--calibration", "folder of the products, to calibrate it with; default: the one it was trained on"),
        ),
        ("sivt export --ckpt_path runs/small/version_0/checkpoints/best.ckpt --format openvino --precision bf16",),
    ),
    "calibrate": Help(
        "Fits a trained model's verdicts to new good photos: another lamp, camera or shift. Nothing is trained.",
        "Without\n--good it takes the photos of the training, as `sivt fit` does at its end.",
        "sivt calibrate --ckpt_path FILE [--good FOLDER] [options]",
        (
            ("--ckpt_path", "the model: a checkpoint, or a file of sivt export"),
            ("--good", "good photos: sub-folders of products, a list saved from report.html, or --state of a server"),
            ("--defects", "folder of photos of defects: says how many are found, and at how many false alarms"),
            ("--false_alarms", "share of good parts that may be called anomalous, such as 0.01"),
            ("--output", "file to write; default: beside the model, with -calibrated in its name"),
        ),
        ("sivt calibrate --ckpt_path best.ckpt --good photos/good --defects photos/defects",),
    ),
    "check": Help(
        "Says whether the deployed model judges golden photos as the tested one did.",
        "First the tested model records\nwhat it says of them (--record); then, wherever a model runs, the same is "
        "asked of it: another resize, colour\norder or runtime shows. Exit code 0 where all agrees, else 1.",
        "sivt check --model FILE --golden FOLDER [options]",
        (
            ("--model", "a checkpoint, or a file of sivt export"),
            ("--golden", "folder of a few dozen photos, good ones and defects of each product"),
            ("--record", "write down what this model says of them, beside them"),
            ("--tolerance", "share by which scores and maps may be off; default: 0.02"),
            ("--json", "file of every difference, for other programs"),
        ),
        ("sivt check --model best.ckpt --golden golden --record", "sivt check --model best.xml --golden golden"),
    ),
    "serve": Help(
        "Answers over HTTP: an image in, score, verdict and regions out.",
        "Ctrl-C or SIGTERM ends it in good order.",
        "sivt serve --model FILE [options]",
        (
            ("--model", "a checkpoint, or a file of sivt export: .xml is the fastest on processors"),
            ("--port", "where it listens; default: 8000"),
            ("--host", "address it listens on; default: 127.0.0.1, which only this machine reaches"),
            ("--token_file", "file of the token that others must send; needed with any other --host"),
            ("--state", "folder that keeps the last parts and what people say of them; none keeps nothing"),
        ),
        ("sivt serve --model best-int8.xml --port 8000",),
    ),
    "watch": Help(
        "Judges every photo that arrives in a folder, once, and writes a line of JSON for each.",
        "Killed and started\nagain it goes on where it was. Ctrl-C or SIGTERM ends it after the photo at hand.",
        "sivt watch --model FILE --folder FOLDER --log FILE [options]",
        (
            ("--model", "a checkpoint, or a file of sivt export: .xml is the fastest on processors"),
            ("--folder", "where photos arrive; what lies there at the start is judged first"),
            ("--log", "file of the results, which is gone on with where it is there"),
            ("--move", "move each photo into ok/, ng/ or unknown/ of the folder"),
            ("--webhook", "address that each line is sent to, signed"),
        ),
        (
            "sivt watch --model best-int8.xml --folder camera --log results.jsonl --move",
            "sivt watch --model best-int8.xml --folder camera --log results.jsonl --webhook https://line.example/verdicts",
        ),
    ),
    "data": Help(
        "Looks at photos before a training, or makes a list of them.",
        "check says what a careful colleague\nwould: copies, wrong masks, other light, defects among good parts, with "
        "pictures. list writes a table\nto edit, of what each photo is for and shows, which fit, test and predict take "
        "in the place of the folder.",
        "sivt data check|list FOLDER [options]",
        (
            ("folder", "folder of the products, laid out in any way that fit knows"),
            ("--layout", "how it is laid out, where that cannot be seen"),
            ("--output", "what is written: of check a folder, default checks/NAME; of list a CSV file"),
            ("--marked", "of list: --state of a server, whose photos marked good are listed, too"),
            ("--weights", "of check: file of a network's weights; default: those of EfficientNet-Lite 0"),
        ),
        ("sivt data check photos", "sivt data list photos --output photos.csv"),
    ),
    "demo-data": Help(
        "Writes a small artificial data set to try the commands on: six products, five kinds of defect.",
        "hard adds circuit\nboards of 1024 x 1024 pixels with defects of 6 to 12 pixels, for fit --data.tiles auto.",
        "sivt demo-data FOLDER [options]",
        (
            ("folder", "new or empty folder to write to"),
            ("--difficulty", "easy, normal or hard: how faint the defects are, or how small"),
            ("--seed", "another number makes other images"),
        ),
        ("sivt demo-data runs/demo_data --difficulty hard",),
    ),
    "benchmark": Help(
        "Measures what a model costs on this machine: parameters, operations, speed and memory.",
        "",
        "sivt benchmark [--config FILE | --ckpt_path FILE] [options]",
        (
            ("--config", "settings of a model, a file or a shipped name such as small"),
            ("--ckpt_path", "a trained model instead"),
            ("--device", "cpu or cuda; default: the GPU, if there is one"),
            ("--batch_sizes", "how many images at a time to try, such as [1,8]"),
            ("--json", "also write the figures into a file"),
        ),
        ("sivt benchmark --config small --batch_sizes [1,8]",),
    ),
}


def front_page() -> str:
    """What `sivt --help` prints."""
    return "\n".join(
        [
            "usage: sivt COMMAND [options]",
            "",
            "One model that finds defects in many products, trained on photos of good parts only.",
            "",
            "Commands (`sivt COMMAND --help` says more):",
            *(f"  {verb:12}{about.line}" for verb, about in HELP.items()),
            "",
            "With each of them: --quiet prints errors only, --debug shows where an error comes from.",
        ]
    )


# Lightning's own words speak of what `sivt` has not: checkpoints called "best", seeds that are drawn.
OPTIONS = {
    "--help": "Show this page.",
    "--config": "File of settings in YAML, or the name of a shipped one, such as small; several may follow.",
    "--print_config": "Print all settings as YAML and exit; =skip_default leaves out those that are as ever.",
    "--trainer": "File of the Trainer's settings alone.",
    "--model": "File of the model's settings alone.",
    "--data": "File of the photos' settings alone.",
    "--ckpt_path": "Checkpoint of a run: for fit its last.ckpt, to go on; else the model, such as best.ckpt.",
    "--seed_everything": "Another number gives another split, order and initialisation.",
}


class Formatter(DefaultHelpFormatter):
    """Leaves the lines of a description as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(indent + line for line in text.splitlines())
