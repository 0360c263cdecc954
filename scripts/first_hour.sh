#!/usr/bin/env bash
# The first hour of a stranger, in an empty folder: installs the package, and goes through own pictures to a report,
# an own reader and network, the library, exports, and published weights on the part of VOC where they are there
# (SEG_JAX_TEST_DATA). Stops at the first thing that does not work. CI runs it last. It takes about 4 minutes of
# processor time, half of it for the published weights.
#   FIRST_HOUR_FRESH=1: `pip install` of everything into an environment of its own (a download of about 1 GB);
#                       else only the package itself is installed, and the libraries are those of .venv.
#   FIRST_HOUR_DIR: the folder; default: a temporary one, which is removed at the end.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
here=${FIRST_HOUR_DIR:-$(mktemp -d)}
[ -n "${FIRST_HOUR_DIR:-}" ] || trap 'rm -rf "$here"' EXIT
mkdir -p "$here/home" "$here/work"
step() { printf '\n== %s (%d s)\n' "$1" "$SECONDS"; }

step "install"
source_copy=$here/source # building writes into the folder that is built
mkdir -p "$source_copy"
tar -C "$root" --exclude=./.git --exclude='./.venv*' --exclude=./runs --exclude=./data --exclude=./build --exclude='*.egg-info' -cf - . |
  tar -C "$source_copy" -xf -
if [ -n "${FIRST_HOUR_FRESH:-}" ]; then
  "$python" -m venv "$here/env"
  python=$here/env/bin/python
  "$python" -m pip install --quiet --disable-pip-version-check "$source_copy"
else
  "$python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$here/env" "$source_copy"
  export PYTHONPATH=$here/env
fi
cd "$here/work"
# Nothing of the user's own is read or written.
export HOME=$here/home XDG_DATA_HOME=$here/home/share XDG_CACHE_HOME=$here/home/cache
unset SEG_JAX_DATA SEG_JAX_WEIGHTS SEG_JAX_CACHE SEG_JAX_EXPERIMENTS JAX_COMPILATION_CACHE_DIR
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 # what one verb has compiled, the next has not to
exec 3>&2 # the seconds of each are printed wherever its own output goes
seg_jax() {
  local began=$SECONDS status=0
  "$python" -m seg_jax "$@" || status=$?
  printf "   %d s: seg_jax %.60s\n" "$((SECONDS - began))" "$*" >&3
  return $status
}
has() { grep -q -- "$1" "$2" || { echo "first_hour: $2 has no '$1':" && cat "$2" && exit 1; } }

step "what is here"
seg_jax env >env.txt
has "$here/home/share/seg_jax/weights" env.txt
seg_jax list >list.txt
awk 'length > 100 { print "too long: " $0; bad = 1 } END { exit bad }' list.txt
has unet_synthetic list.txt

step "own pictures"
"$python" - <<'PY'
from pathlib import Path

import numpy as np
from PIL import Image

import seg_jax

assert "env" in Path(seg_jax.__file__).parts, seg_jax.__file__  # the installed copy
rng = np.random.default_rng(0)
for name in ("images", "masks"):
    Path("photos", name).mkdir(parents=True)
rows, columns = np.indices((64, 80))
for index in range(20):
    y, x = rng.integers(16, 48), rng.integers(16, 64)
    label = np.uint8((rows - y) ** 2 + (columns - x) ** 2 < 12**2)
    label[:, :8] = 2
    image = np.array([(60, 90, 60), (200, 60, 50), (60, 80, 210)])[label] + rng.normal(0, 20, (64, 80, 3))
    Image.fromarray(np.uint8(image.clip(0, 255))).save(f"photos/images/{index:02}.jpg")
    Image.fromarray(label).save(f"photos/masks/{index:02}.png")
Path("photos/classes.txt").write_text("background\ndisc\nbar\n")
PY
seg_jax data check photos
own=(--data.dataset folder --data.root photos --data.augmentation.crop 32 32 --model.num-classes 3 --model.depth 2
  --loss.class-weights 1 1 1 --evaluation.canvas None)
seg_jax train unet_synthetic "${own[@]}" --workdir runs/mine --train.steps 30 --train.log-every 5 --train.evaluate-every 15 \
  >train.txt 2>train.err
has "next: python -m seg_jax evaluate runs/mine" train.txt
has "compiling the training step" train.err
if seg_jax train unet_synthetic "${own[@]}" --workdir runs/mine --train.steps 40 2>longer.txt; then
  echo "a schedule over all steps was extended without a word" && exit 1
fi
has "--extend" longer.txt
seg_jax evaluate runs/mine >score.txt 2>score.err
head -n 1 score.txt
awk 'length > 100 { print "too long: " $0; bad = 1 } END { exit bad }' score.txt
has "^mIoU [0-9.]* % on folder:photos val" score.txt
has "report.html" score.err
seg_jax evaluate runs/mine --evaluation.flip --json >flipped.json
seg_jax predict runs/mine photos/images --out predictions --palette safe
[ "$(find predictions -name '*_overlay.png' | wc -l)" = 20 ]
seg_jax report runs/mine --out page.html --title "Discs and bars"
for word in "Training loss" "Validation during training" "What is taken for what" "errors"; do has "$word" page.html; done

step "own reader, own network"
mkdir mine
cat >mine/__init__.py <<'PY'
"""A reader and a network of ours."""
PY
cat >mine/frames.py <<'PY'
"""Frames with their masks beside them, half of them for training."""

from pathlib import Path

from seg_jax import data
from seg_jax.data.source import Source
from seg_jax.data.colours import of

GET = "draw frames"
data.register("frames", __name__)


def splits(root):
    return "train", "val"


def open_split(root, split):
    names = sorted(path.stem for path in Path(root, "images").glob("*.jpg"))[split == "val" :: 2]
    return Source(
        name="frames", split=split, root=Path(root), ids=tuple(names),
        image_paths=tuple(f"images/{name}.jpg" for name in names),
        label_paths=tuple(f"masks/{name}.png" for name in names),
        classes=("background", "disc", "bar"), label_ids={0: 0, 1: 1, 2: 2, 255: 255},
        palette=of(("background", "disc", "bar")),
    )
PY
cat >mine/network.py <<'PY'
"""Two convolutions."""

import jax.numpy as jnp
from flax import linen as nn

from seg_jax.data.config import Augmentation, DataConfig
from seg_jax.data.preprocessing import TF_SYMMETRIC
from seg_jax.experiment import Experiment, TrainConfig, register
from seg_jax.nn.conv import Conv
from seg_jax.optim import OptimConfig


class Two(nn.Module):
    """Two convolutions.

    Attributes:
      num_classes: channels of the logits.
    """

    num_classes: int = 3

    @nn.compact
    def __call__(self, image, *, train):
        x = nn.relu(Conv(8, name="first")(image))
        return {"out": Conv(self.num_classes, name="score")(x).astype(jnp.float32)}


@register("two_frames")
def two_frames() -> Experiment:
    """Two convolutions on frames."""
    return Experiment(
        family="Two", paper="none", model=Two(),
        data=DataConfig("frames", Augmentation(crop=(32, 32)), TF_SYMMETRIC),
        optim=OptimConfig(base_lr=1e-2, optimizer="adamw"), train=TrainConfig(steps=20, batch_size=4),
    )
PY
export SEG_JAX_EXPERIMENTS=mine
seg_jax data check photos --dataset frames >/dev/null
seg_jax train two_frames --data.root photos >/dev/null 2>&1
seg_jax train two_frames --data.root photos --train.steps 25 2>/dev/null | grep "to step 25" # a fixed rate: it may grow
seg_jax evaluate runs/two_frames 2>/dev/null | head -n 1
unset SEG_JAX_EXPERIMENTS
seg_jax report runs/mine --out page.html --palette voc

step "the library"
"$python" - <<'PY'
import dataclasses

import numpy as np

import seg_jax as sj

source = sj.data.open_source("folder", "photos", "train")
batches = [
    {key: np.stack([source[i + j][key][:32, :32] for j in range(4)]) for key in ("image", "label")}
    for i in range(0, 16, 4)
]
base = sj.load("runs/mine").experiment
mine = dataclasses.replace(base, name="lib", train=dataclasses.replace(base.train, steps=6, batch_size=4, evaluate_every=0))
trained = sj.fit(mine, "runs/library", batches=batches, progress=False)
scores = sj.evaluate(trained, progress=False)
labels = sj.predict("runs/mine", "photos/images/00.jpg")
print(f"library: mIoU {100 * scores.mean_iou:.1f} %, label map {labels.shape} {labels.dtype}")
try:
    sj.metrics.confusion(np.zeros((2, 2), int), np.full((2, 2), 3), 3)
except ValueError as error:
    print(f"refused: {error}")
else:
    raise SystemExit("a prediction out of range was counted")
PY

step "exports"
seg_jax weights release runs/mine --license apache-2.0
seg_jax predict runs/mine/release photos/images/00.jpg --out from_release
seg_jax export runs/mine --format stablehlo --size 64 80

if [ -d "${SEG_JAX_TEST_DATA:-}/weights/deeplabv3_mnv2_dm05_voc" ] && [ -d "$SEG_JAX_TEST_DATA/data/VOCdevkit" ]; then
  step "published weights, fine-tuned on the part of VOC"
  name=google_deeplabv3_mobilenetv2_dm05_voc
  seg_jax weights import "$SEG_JAX_TEST_DATA/weights/deeplabv3_mnv2_dm05_voc/deeplabv3.tflite" --as $name
  [ -d "$here/home/share/seg_jax/weights/$name" ]
  whole=$SEG_JAX_TEST_DATA/data/VOCdevkit/VOC2012 some=voc/VOCdevkit/VOC2012
  mkdir -p $some/JPEGImages $some/SegmentationClass $some/ImageSets/Segmentation
  for split in train val; do
    head -n 8 "$whole/ImageSets/Segmentation/$split.txt" | tee $some/ImageSets/Segmentation/$split.txt | while read -r id; do
      cp "$whole/JPEGImages/$id.jpg" $some/JPEGImages/
      cp "$whole/SegmentationClass/$id.png" $some/SegmentationClass/
    done
  done
  seg_jax train deeplab_v3plus_mobilenetv2_voc_dm05 --init $name --workdir runs/tuned --data.root voc --data.train-split train --train.steps 2 \
    --train.batch-size 4 --data.augmentation.crop 129 129 --optim.base-lr 1e-5 2>tuned.err | tee tuned.txt
  has "step 0 on val" tuned.txt
  seg_jax evaluate runs/tuned >tuned_score.txt 2>/dev/null
  head -n 1 tuned_score.txt
  seg_jax show $name >published.txt
  has "evaluation.canvas = (257, 257)" published.txt
  seg_jax evaluate $name --root voc 2>/dev/null | head -n 1
  seg_jax predict $name "$some/JPEGImages/$(head -n 1 $some/ImageSets/Segmentation/val.txt).jpg" --out published
else
  step "left out: published weights on the part of VOC (SEG_JAX_TEST_DATA names no folder with both)"
fi

[ ! -e data ] || { echo "something was put into ./data" && exit 1; }
step "done"
