"""The ant of D4RL's AntMaze and of OGBench, for the evaluation environment.

It differs from Gymnasium's in three things: a step takes 0.1 s instead of 0.05 s, a motor's torque
is at most 30 Nm instead of 150, and contacts are softer (``d4rl/locomotion/assets/ant.xml``,
``ogbench/locomaze/assets/ant.xml``).
"""

import pathlib
import xml.etree.ElementTree as ET

import gymnasium

_TIME_STEP = "0.02"  # s; five make a step of the environment.
_GEAR = "30"  # Nm at an action of 1.
_CONTACTS = ".8 .8 .01"  # The constraints' solimp; MuJoCo's own is .9 .95 .001.


def ant_model() -> str:
    """Returns Gymnasium's model with these changes, as MuJoCo's XML."""
    source = pathlib.Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / "ant.xml"
    root = ET.parse(source).getroot()
    for path, attribute, value in (
        ("option", "timestep", _TIME_STEP),
        ("default/geom", "solimp", _CONTACTS),
        ("actuator/motor", "gear", _GEAR),
    ):
        for element in root.findall(path):
            element.set(attribute, value)
    return ET.tostring(root, encoding="unicode")
