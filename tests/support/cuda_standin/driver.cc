// The driver's library, which the daemon looks for before it loads anything of CUDA. No function of it is called here.
extern "C" int cuInit(unsigned int) { return 0; }
