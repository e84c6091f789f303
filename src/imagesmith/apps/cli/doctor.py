"""`imagesmith doctor`."""

from imagesmith.apps.cli.options import DebugFlag, Device, DeviceOption, Dtype, DtypeOption


def doctor(*, device: DeviceOption = Device.AUTO, dtype: DtypeOption = Dtype.AUTO, debug: DebugFlag = False) -> None:
    """Show versions, devices, extras, memory, one timed tile, and how networks run here and why."""
    from imagesmith.apps.doctor import examine

    for name, finding in examine(device, dtype):
        print(f"{name:18}{finding}", flush=True)
