"""Make the data and the pictures of docs/own-pictures.md: photographs of scikit-image's wheel, and what is found in them.

python -m docs.make_own_pictures                                    # folders coins/ and hubble/
python training.py --data coins --crop --resize 0.45 --max-steps 6 --run coins_run
python -m docs.make_own_pictures coins_run coins/coins.png          # counts, and draws docs/own_pictures_coins.png
"""

import sys
from pathlib import Path

import numpy as np

import air
from air.data.folders import PictureConfig
from air.support import drawing
from air.support.files import read_json

PHOTOS = {"coins": "coins.png", "hubble": "hubble_deep_field.jpg"}
ZOOM = 3


def make_folders() -> None:
    """Copy each photograph into a folder of its own."""
    import skimage

    for name, file in PHOTOS.items():
        Path(name).mkdir(exist_ok=True)
        Path(name, file).write_bytes((Path(skimage.__file__).parent / "data" / file).read_bytes())


def count(run: Path, picture: Path) -> None:
    """Count the objects of a whole picture, resized as the run's training data were, and draw them beside it."""
    recipe = read_json(Path(read_json(run / "config.json")["data"]) / "config.json")
    pixels = PictureConfig(resize=recipe["resize"]).read(picture, recipe["channels"])
    scenes = air.load(run).infer(pixels[None])
    number = int(scenes.count[0])
    print(f"{picture}: {number} objects on {pixels.shape[0]}x{pixels.shape[1]} pixels")
    frames = scenes.attention_boxes[0, :number]
    tiles = [drawing.canvas(image, frames, ZOOM) for image in (pixels, scenes.reconstruction[0])]
    drawing.sheet(tiles, columns=2, gap=ZOOM).save(f"docs/own_pictures_{picture.parent.name}.png")
    np.savetxt(sys.stdout, frames, "%.1f", header="x y width height")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        count(*map(Path, sys.argv[1:3]))
    else:
        make_folders()
