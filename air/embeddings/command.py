"""Export z_what of the objects in scenes, for TensorBoard's projector and as plots and arrays.

    python embeddings.py                                 # test scenes and the model in model/, to embeddings/
    python embeddings.py --run air_results --sprite crop --output mine
    tensorboard --logdir embeddings                      # then open http://localhost:6006/#projector

`air/embeddings/export.py` describes the files.
"""

import dataclasses
import shlex
from pathlib import Path
from typing import Annotated

import tyro

from air.config import DEFAULT_DATA, DEFAULT_MODEL, find_model
from air.embeddings.config import OWN_FILES, EmbeddingsConfig
from air.errors import DataError
from air.support import cli, files

Path_ = Annotated[Path, tyro.conf.arg(metavar="PATH")]


@dataclasses.dataclass(frozen=True)
class Arguments:
    run: Path_ = DEFAULT_MODEL
    """Run folder, folder with air.keras or .keras file."""
    data: Path_ = DEFAULT_DATA
    """Folder with test.npz and train.npz, or one file of scenes, labelled or not; the default one is generated if missing."""
    mnist: Path_ | None = None
    """MNIST as an .npz in Keras' format or a folder of IDX files, if the scenes are not made of the bundled digits."""
    output: Path_ = Path("embeddings")
    """Folder to write; it must not exist."""
    overwrite: bool = False
    """Replace the embeddings in the output folder."""
    embeddings: EmbeddingsConfig = dataclasses.field(default_factory=EmbeddingsConfig)


def main() -> None:
    args = cli.parse(Arguments, __doc__)
    model = find_model(args.run)
    for path in (model, args.data):  # before TensorFlow's slow import
        if not path.exists() and path != DEFAULT_DATA:
            raise DataError(f"{path}: no such file or folder")
    files.check_replaceable(args.output, args.overwrite, OWN_FILES, "embeddings")
    with cli.quiet_import():
        from air.embeddings.export import export

    print(export(model, args.output, args.embeddings, data=args.data, mnist_path=args.mnist, overwrite=args.overwrite))
    print(f"Written: {args.output}. See it with: {shlex.join(['tensorboard', '--logdir', str(args.output)])}")
    print("then open http://localhost:6006/#projector")


def script() -> None:
    """Run the command air-embeddings, or embeddings.py."""
    cli.run(main)
