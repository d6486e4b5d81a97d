"""Against CUDA's own library, of several versions where they are installed; there need be no GPU."""

import pytest

from device_agents import cudart


@pytest.fixture(scope="module", params=["libcudart.so.12", "whatever is found"])
def cuda(request):
    """CUDA 12's library from NVIDIA's package, and the one that a board would take."""
    wheels = [path for path in cudart.candidates() if path.endswith(f"cuda_runtime/lib/{request.param}")]
    if request.param == "libcudart.so.12" and not wheels:
        pytest.skip("nvidia-cuda-runtime-cu12 is not installed: it is for x86-64 Linux")
    try:
        return cudart.Cuda(*wheels)
    except cudart.CudaError as e:
        pytest.skip(str(e))


@pytest.fixture
def no_gpu(cuda):
    try:
        cuda.device()
    except cudart.CudaError:
        return cuda
    pytest.skip("there is a GPU here")


def test_the_library_of_nvidia_s_package_is_found_and_says_its_version(cuda):
    major, minor = cuda.version().split(".")

    assert int(major) >= 10
    assert int(minor) >= 0


def test_errors_are_put_in_cuda_s_own_words(cuda):
    assert cuda.words(2) == "out of memory"
    assert cuda.words(1) == "invalid argument"
    assert cuda.words(0) == "no error"


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda cuda: cuda.device(), "cudaGetDeviceCount"),
        (lambda cuda: cuda.allocate(4096), "cudaMalloc"),
        (lambda cuda: cuda.allocate_host(4096), "cudaMallocHost"),
        (lambda cuda: cuda.new_stream(), "cudaStreamCreate"),
        (lambda cuda: cuda.wait_by(False), "cudaSetDeviceFlags"),
    ],
)
def test_without_a_driver_each_call_says_so(no_gpu, call, name):
    with pytest.raises(cudart.CudaError, match=rf"^{name}: .*(driver|device).* \(CUDA error (35|100)\)"):
        call(no_gpu)


def test_leaving_the_way_of_waiting_to_cuda_asks_nothing_of_it(cuda):
    cuda.wait_by(None)


def test_a_board_without_the_library_is_told_where_to_get_it(tmp_path):
    with pytest.raises(cudart.CudaError, match=r"libcudart is not here: .*nvidia-jetpack"):
        cudart.Cuda(str(tmp_path / "libcudart.so"))
