"""Boards as folders: each is shaped like the /proc and /sys of a real one."""

import os

import pytest

from device_agents import board, telemetry


@pytest.fixture
def root(tmp_path):
    """Write the board's files; return the folder."""

    def root(files):
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        return str(tmp_path)

    return root


PI4 = {
    "sys/firmware/devicetree/base/model": "Raspberry Pi 4 Model B Rev 1.4\0",
    "proc/cpuinfo": "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\n"
    "CPU implementer\t: 0x41\nCPU part\t: 0xd08\n\nHardware\t: BCM2835\nModel\t: Raspberry Pi 4 Model B Rev 1.4\n",
    "proc/meminfo": "MemTotal:        3884096 kB\nMemFree:  100 kB\nMemAvailable:    3271880 kB\n",
    "proc/loadavg": "0.42 0.31 0.20 1/181 1234\n",
    "proc/sys/kernel/osrelease": "6.6.20+rpt-rpi-v8\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "48312\n",
    **{f"sys/devices/system/cpu/cpu{n}/cpufreq/scaling_governor": "ondemand\n" for n in range(4)},
    **{f"sys/devices/system/cpu/cpu{n}/cpufreq/scaling_cur_freq": f"{600000 + 300000 * n}\n" for n in range(4)},
}

NANO = {
    "proc/device-tree/model": "NVIDIA Jetson Nano Developer Kit\0",
    "proc/cpuinfo": "processor : 0\nmodel name : ARMv8 Processor rev 1 (v8l)\nFeatures : fp asimd aes\n"
    "CPU implementer : 0x41\nCPU part : 0xd07\n",
    **{
        f"sys/class/thermal/thermal_zone{n}/{name}": f"{value}\n"
        for n, (kind, temperature) in enumerate(
            [("AO-therm", 38500), ("CPU-therm", 31500), ("PLL-therm", -256000), ("PMIC-Die", 100000)]
        )
        for name, value in (("type", kind), ("temp", temperature))
    },
}

PC = {
    "sys/class/dmi/id/product_name": "Ordinary Desktop\n",
    "proc/cpuinfo": "processor\t: 0\nmodel name\t: Some CPU @ 3.00GHz\ncpu MHz\t\t: 1200.5\nflags\t\t: fpu avx avx2\n\n"
    "processor\t: 1\nmodel name\t: Some CPU @ 3.00GHz\ncpu MHz\t\t: 2999.1\nflags\t\t: fpu avx avx2\n",
    "sys/class/hwmon/hwmon0/name": "nvme\n",
    "sys/class/hwmon/hwmon0/temp1_input": "80000\n",
    "sys/class/hwmon/hwmon1/name": "k10temp\n",
    "sys/class/hwmon/hwmon1/temp1_input": "51250\n",
}


def test_a_raspberry_pi_is_recognised(root, tmp_path):
    facts = board.facts(str(tmp_path), root(PI4))

    assert facts["board"] == "Raspberry Pi 4 Model B Rev 1.4"
    assert (facts["cpu"], facts["simd"], facts["kernel"]) == ("Cortex-A72", "neon", "6.6.20+rpt-rpi-v8")
    assert facts["vnni"] is None
    assert (facts["governor"], facts["clock_mhz"], facts["temperature_c"]) == ("ondemand", 1500.0, 48.312)
    assert facts["memory_mb"] == pytest.approx(3977.3, abs=0.1)


def test_a_board_says_what_decides_on_its_wheels_and_modes(root, tmp_path):
    place = root(
        {
            "etc/os-release": 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 18.04.6 LTS"\n',
            "etc/nv_tegra_release": "# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t210ref\n",
            "proc/meminfo": "MemTotal: 4059292 kB\nSwapTotal: 2029636 kB\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_available_governors": "ondemand performance \n",
        }
    )
    facts = board.facts(str(tmp_path), place)

    assert (facts["system"], facts["l4t"], facts["governors"]) == (
        "Ubuntu 18.04.6 LTS",
        "32.7.1",
        "ondemand,performance",
    )
    assert facts["swap_mb"] == pytest.approx(2078.3, abs=0.1)
    assert facts["libc"] is None or facts["libc"].startswith("glibc ")


def test_busy_time_is_counted_over_all_cores_and_stolen_time_apart(root):
    ticks = os.sysconf("SC_CLK_TCK")
    counted = " ".join(str(seconds * ticks) for seconds in (5, 1, 2, 900, 50, 0, 1, 3, 4, 0))
    stat = f"cpu  {counted}\ncpu0 1 1\n"

    assert telemetry.cpu_times_s(root({"proc/stat": stat})) == (9.0, 3.0)


@pytest.mark.parametrize("stat", ["", "cpu  1 2 3\n", "intr 5\n"])
def test_no_busy_time_is_made_up(root, stat):
    assert telemetry.cpu_times_s(root({"proc/stat": stat})) is None


def test_a_jetson_s_placeholder_and_sleeping_zones_are_no_temperature(root):
    place = root(NANO)

    assert telemetry.temperature_c(place) == 38.5
    assert board.model(place) == "NVIDIA Jetson Nano Developer Kit"
    assert board.cpu(NANO["proc/cpuinfo"]) == "Cortex-A57"


def test_a_pc_is_read_from_dmi_cpuinfo_and_hwmon(root):
    place = root(PC)

    assert (board.model(place), board.simd(PC["proc/cpuinfo"])) == ("Ordinary Desktop", "avx2")
    assert board.facts(place, place)["vnni"] is False
    assert (telemetry.clock_mhz(place), telemetry.temperature_c(place)) == (2999.1, 51.25)
    assert telemetry.governor(place) is None


def test_governors_that_differ_are_all_named(root):
    change = {"sys/devices/system/cpu/cpu3/cpufreq/scaling_governor": "performance\n"}

    assert telemetry.governor(root({**PI4, **change})) == "ondemand,performance"


def test_a_bare_machine_gives_absent_values_and_no_error(tmp_path):
    facts = board.facts(str(tmp_path), str(tmp_path))
    felt = telemetry.now(str(tmp_path), str(tmp_path))

    assert facts["board"]
    assert (facts["simd"], facts["memory_mb"], facts["temperature_c"]) == ("none", 0.0, None)
    assert facts["vnni"] is None
    assert felt["load"] is felt["memory_free_mb"] is felt["clock_mhz"] is None


@pytest.mark.parametrize("text", ["", "garbage", "\0\xff", "-256000", "999999", "nan"])
def test_a_zone_with_nonsense_in_it_is_no_temperature(root, text):
    assert telemetry.temperature_c(root({"sys/class/thermal/thermal_zone0/temp": text})) is None


def test_telemetry_is_what_the_host_expects(root, tmp_path):
    felt = telemetry.now(str(tmp_path), root(PI4))

    assert (felt["temperature_c"], felt["load"], felt["throttled"]) == (48.312, 0.42, None)
    assert felt["memory_free_mb"] == pytest.approx(3350.4, abs=0.1)
    assert felt["disk_free_mb"] > 0


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo throttled=0x50005", "0x50005"),
        ("echo VCHI initialization failed; exit 255", None),
        ("echo nonsense", None),
        ("sleep 5", None),
    ],
)
def test_throttling_is_what_the_firmware_says_or_nothing(tmp_path, monkeypatch, script, expected):
    program = tmp_path / "vcgencmd"
    program.write_text(f'#!/bin/sh\n[ "$1" = get_throttled ] || exit 1\n{script}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    assert telemetry.throttled() == expected


def test_the_peak_of_memory_is_this_process_s_own():
    assert 5 < telemetry.peak_rss_mb() < 100_000


def test_free_space_counts_where_the_folder_will_be(tmp_path):
    assert telemetry.disk_free_mb(str(tmp_path / "not" / "yet")) == pytest.approx(
        telemetry.disk_free_mb(str(tmp_path)), rel=0.1
    )
