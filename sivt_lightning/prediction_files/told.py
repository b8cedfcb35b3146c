"""Which product each photo is told to be of, where folders say so."""

from collections.abc import Collection, Sequence
from pathlib import PurePosixPath

from sivt_lightning.data.asked import named_on_the_way
from sivt_lightning.errors import SIVTError


def told_by_folders(paths: Sequence[PurePosixPath], base_name: str, products: Collection[str]) -> list[str]:
    """For photos at these places in a folder of this name: the first folder that is called as a product.

    Raises SIVTError where a photo has none.
    """
    return [_product(path, base_name, products) for path in paths]


def _product(path: PurePosixPath, base_name: str, products: Collection[str]) -> str:
    product = named_on_the_way(base_name, path, products)
    if product is None:
        folders = ", ".join((base_name, *path.parts[:-1]))
        raise SIVTError(
            f"{path}: none of its folders ({folders}) is a category that the model was trained on "
            f"({', '.join(sorted(products))}). Name one with --category, or leave out --threshold_by category."
        )
    return product
