"""The ant of D4RL's AntMaze and of OGBench, for the evaluation environment.

It is not Gymnasium's: a step takes 0.1 s instead of 0.05 s, a motor's torque is at most 30 Nm
instead of 150, and contacts are softer. All else is the same (``d4rl/locomotion/assets/ant.xml``,
``ogbench/locomaze/assets/ant.xml``), so the model that comes with Gymnasium is changed in these
three things.
"""

import pathlib
import xml.etree.ElementTree as ET

import gymnasium

from iql_jax.utils.errors import UserError

_TIME_STEP = "0.02"  # s; five make a step of the environment.
_GEAR = "30"  # Nm at an action of 1.
_CONTACTS = ".8 .8 .01"  # The constraints' solimp; MuJoCo's own is .9 .95 .001.


def ant_model() -> str:
    """Returns the model as MuJoCo's XML.

    Raises:
        UserError: if Gymnasium's own model is not there or not what it was.
    """
    source = pathlib.Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / "ant.xml"
    try:
        root = ET.parse(source).getroot()
    except (OSError, ET.ParseError) as error:
        raise UserError(f"Gymnasium's model of the ant cannot be read ({error})") from error
    option, contacts = root.find("option"), root.find("default/geom")
    motors = root.findall("actuator/motor")
    if option is None or contacts is None or len(motors) != 8:
        raise UserError(f"{source} is not the model that it was: report it to iql_jax")
    option.set("timestep", _TIME_STEP)
    contacts.set("solimp", _CONTACTS)
    for motor in motors:
        motor.set("gear", _GEAR)
    return ET.tostring(root, encoding="unicode")
