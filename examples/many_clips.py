"""Edit all clips of a folder with a model that is loaded once: `python examples/many_clips.py clips "snow falls"`."""

import sys
from pathlib import Path

import evenreel

folder, prompt, *steps = sys.argv[1:]

model = evenreel.load_backbone("mini")
settings = evenreel.EditSettings(prompt=prompt, frames=(0, 6), steps=int(steps[0]) if steps else 25)
for source in sorted(Path(folder).glob("*.mp4")):
    target = Path("edited") / source.name
    target.parent.mkdir(exist_ok=True)
    try:
        evenreel.edit_file(source, target, settings, backbone=model)
    except evenreel.ClipError as error:  # one that cannot be read must not end the others
        print(error, file=sys.stderr)
    else:
        print(target)
