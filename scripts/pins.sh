# Versions of everything that is downloaded. The dependency cache is keyed by this file's content, so changing a line
# here makes a new folder in the cache and leaves the old one for other clones.
TORCH=2.11.0
TORCH_PYTHON=3.11
CUDA_RUNTIME=13.0.96
CUDA_CUPTI=13.0.85
# The compiler. nvvm, crt and the runtime are pinned with it: left free they come newer than ptxas, and every compile
# fails, or the headers are not those of the library.
CUDA_TOOLKIT="cuda-toolkit[nvcc,cccl]==13.0.2 nvidia-nvvm==13.0.* nvidia-cuda-crt==13.0.* nvidia-cuda-runtime==13.0.96"
# Reads what the compiled kernels take; only a test uses it. There is none of 13.0.
CUDA_DISASSEMBLER="nvidia-cuda-cuobjdump==13.2.51 nvidia-cuda-nvdisasm==13.2.86"
# What libtorch_cuda.so needs at run time. Installed only where there is a driver: compiling needs none of it.
CUDA_RUN="nvidia-cublas==13.1.* nvidia-cudnn-cu13==9.19.0.56 nvidia-cusparselt-cu13==0.8.0 nvidia-nccl-cu13==2.28.9 nvidia-nvshmem-cu13==3.4.5 cuda-toolkit[cublas,cufft,cufile,curand,cusolver,cusparse,nvjitlink,nvrtc,nvtx]==13.0.2"
# Lays out the code (`make format`); another version would lay it out otherwise.
CLANG_FORMAT=19.1.7
RUST_MIN=1.82
