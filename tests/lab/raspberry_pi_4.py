"""The files by which a Raspberry Pi 4 Model B is known, as they read on one; laid over a virtual board's."""

from __future__ import annotations

CORES = 4
_PROCESSOR = """\
processor\t: {core}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""
CPUINFO = (
    "".join(_PROCESSOR.format(core=core) for core in range(CORES))
    + "Revision\t: c03114\nSerial\t\t: 10000000abcdef01\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n"
)

SYS = {  # below /sys
    "firmware/devicetree/base/model": "Raspberry Pi 4 Model B Rev 1.4\0",
    "class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "class/thermal/thermal_zone0/temp": "48312\n",
    **{f"devices/system/cpu/cpu{core}/cpufreq/scaling_governor": "ondemand\n" for core in range(CORES)},
    **{f"devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq": "1500000\n" for core in range(CORES)},
    **{
        f"devices/system/cpu/cpu{core}/cpufreq/scaling_available_governors": "ondemand performance\n"
        for core in range(CORES)
    },
}

VCGENCMD = """\
#!/bin/sh
case "$1" in
  get_throttled) echo throttled=0x0 ;;
  measure_temp) echo "temp=48.3'C" ;;
  *) echo "error=1 error_msg=\\"Command not registered\\"" ;;
esac
"""
