#!/usr/bin/env bash
# Makes the images of these pages again: docs/images.sh FOLDER [NAME...], all or those named. Each is
# made by the command that its page shows, with the bundled model in f32, whose images are the same
# on every processor. POCKETMUSE names the command to use.
set -euo pipefail

mkdir -p "$1"
cd "$1"
names=" ${*:2} "

made() { "${POCKETMUSE:-pocketmuse}" "$@" --quiet > /dev/null; }

# Whether one of these images is wanted.
wanted() {
    for name; do
        if [[ $names == "  " || $names == *" $name "* ]]; then return 0; fi
    done
    return 1
}

# image NAME WORDS...: makes an image by a command.
image() {
    if wanted "$1"; then made "${@:2}" -o "$1"; fi
}

image lighthouse.png generate "a red lighthouse by the sea at sunset" --seed 7

# Editing. Others begin with this one.
if wanted house.png || [[ ! -e house.png ]]; then
    made generate "a red house in a meadow on a sunny day" --seed 2 -o house.png
fi
image edit-whole.png edit house.png "a purple house in the snow at night" --strength 0.9 --seed 4
image edit-box.png edit house.png "a red house in a meadow at night" --box 0,0,128,48 --seed 5
image edit-extend.png edit house.png "a red house in a meadow on a sunny day" \
    --extend left=64,right=64 --seed 4
image style.png grid "a red house in the snow at night" --image house.png --seed 4 \
    --columns strength=0,0.3,0.5,0.7,0.9
image variations.png grid "a red house in a meadow on a sunny day" --seed 2 \
    --columns variation=0,0.3,0.5,0.8,1

# Prompts.
image weight-none.png generate "a red house in the snow at night" --seed 2
image weight-red.png generate "a (red:0) house in the snow at night" --seed 2
image weight-snow.png generate "a red house in the (snow:0) at night" --seed 2

# Sampling.
image grid-samplers.png grid "a red house in a meadow on a sunny day" --seed 2 \
    --rows sampler=confidence,halton --columns num-inference-steps=4,8,12,32
image grid-masking.png grid "a red house in a meadow on a sunny day" --seed 2 \
    --rows masking-schedule=cosine,linear --columns num-inference-steps=2,4,8,12
image grid-guidance.png grid "a red house in a meadow on a sunny day" --seed 2 \
    --rows guidance-schedule=constant,linear,cosine --columns guidance-scale=1,1.5,3,6
image grid-temperature.png grid "a red house in a meadow on a sunny day" \
    --rows seed=1,2 --columns "temperature=0,0;0.7,0;2,0;8,0;8,8"
image grid-strength.png grid "a purple house in the snow at night" --image house.png --seed 4 \
    --columns strength=0.3,0.6,0.8,0.9,1

image tile.png generate "a boat on the sea" --seed 3 --tileable across

# Video.
image video.gif video "a red lighthouse by the sea at sunset" --seed 7 \
    --frames 16 --motion -15,0
image video-end.gif video "a red house in a meadow at sunset" --seed 3 \
    --frames 12 --motion 8,0 --end house.png

# What leaves several files.
if wanted preview-{1,2,3,4,image}.png; then
    made generate "a white house in a meadow at sunset" --seed 2 \
        --num-inference-steps 4 --preview=files -o preview-image.png
    for step in 1 2 3 4; do mv "preview-image.step-0$step.png" "preview-$step.png"; done
fi
if wanted trace-words.png; then
    made generate "a zeppelin over a house in the snow at night" --seed 7 --trace why -o night.png
    mv why/words.png trace-words.png
    rm -r why night.png
fi
