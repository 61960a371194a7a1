"""Make the data and the pictures of docs/own-pictures.md: photographs of scikit-image's wheel, and what is found in them.

python -m docs.make_own_pictures                                    # folders coins/ and hubble/
python training.py --data coins ... --run coins_run                # as the page says
python -m docs.make_own_pictures coins_run coins/coins.png          # counts, and draws own_pictures_coins.png
python -m docs.make_own_pictures hubble_run hubble/hubble_deep_field.jpg 800 0 200 200  # a part: x, y, width, height in pixels
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import air
from air.data import folders
from air.errors import AIRError, UsageError
from air.support import drawing

PHOTOS = {"coins": "coins.png", "hubble": "hubble_deep_field.jpg"}
DRAWN = 600  # greatest side of an enlarged picture, in pixels
GAP = 3  # between two pictures, in pixels


def make_folders() -> None:
    """Copy each photograph into a folder of its own."""
    import skimage

    for name, file in PHOTOS.items():
        Path(name).mkdir(exist_ok=True)
        Path(name, file).write_bytes((Path(skimage.__file__).parent / "data" / file).read_bytes())
        print(f"{name}/{file}")


def count(run: Path, picture: Path, part: Sequence[int] | None) -> None:
    """Count the objects of a picture, resized as the run's training data were, or of a part of it, and draw them."""
    model, rules = air.load(run), folders.rules_of(run)
    if rules is None:
        raise UsageError(f"{run}: was not trained on pictures")
    resize = rules.resize
    pixels = folders.read_resized(picture, rules, model.config.channels)
    if part is not None:
        x, y, width, height = (round(number * resize) for number in part)
        pixels = pixels[y : y + height, x : x + width]
    scenes = model.infer(pixels[None])
    boxes = scenes.attention_boxes[0, : scenes.count[0]]
    print(f"{picture}: {len(boxes)} objects on {pixels.shape[0]}x{pixels.shape[1]} pixels")
    np.savetxt(sys.stdout, boxes / resize, "%.0f", header="x y width height, in pixels of the picture or part")
    zoom = max(DRAWN // max(pixels.shape[:2]), 1)
    tiles = [drawing.canvas(image, boxes, zoom) for image in (pixels, scenes.reconstruction[0])]
    output = f"own_pictures_{picture.resolve().parent.name}.png"
    drawing.sheet(tiles, columns=2, gap=GAP).save(output, optimize=True)
    print(f"{output}: what is found, in the picture and in its reconstruction")


if __name__ == "__main__":
    try:
        if len(sys.argv) == 1:
            make_folders()
        elif len(sys.argv) in (3, 7):
            count(*map(Path, sys.argv[1:3]), [int(number) for number in sys.argv[3:]] or None)
        else:
            raise UsageError("name a run and a picture, and perhaps x, y, width and height of a part of it")
    except (AIRError, OSError, ValueError) as error:
        sys.exit(f"make_own_pictures: error: {error}")
