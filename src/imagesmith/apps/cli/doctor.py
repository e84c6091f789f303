"""`imagesmith doctor`."""

import typer

from imagesmith.apps.cli.options import DebugFlag, Device, DeviceOption, Dtype, DtypeOption
from imagesmith.errors import ImagesmithError


def doctor(*, device: DeviceOption = Device.AUTO, dtype: DtypeOption = Dtype.AUTO, debug: DebugFlag = False) -> None:
    """Show versions, devices, extras, memory, one timed tile, and how networks run here and why."""
    from imagesmith.apps.doctor import UNUSABLE, examine

    code = 0
    for name, finding in examine(device, dtype):
        print(f"{name:18}{finding}", flush=True)
        if finding.startswith(UNUSABLE):
            code = ImagesmithError.exit_code
    raise typer.Exit(code)
