"""Edit a clip with text: `python examples/first_edit.py clip.mp4 "a blue star rolling over snow"`."""

import sys

import evenreel

source, prompt, *steps = sys.argv[1:]

clip = evenreel.load(source, 0, 6)  # six frames; clips of any length: evenreel.edit_file
edited = evenreel.edit(clip, prompt, host="vidtome", steps=int(steps[0]) if steps else 25)
evenreel.save(edited, "edited.mp4")
print(
    f"edited.mp4: {len(edited.frames)} frames, and beside it edited.json, from which `evenreel repeat` makes it again"
)
