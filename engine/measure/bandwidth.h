// How fast this machine reads memory: the bound of decoding, to hold speeds against.
#ifndef CAUSEWAY_ENGINE_MEASURE_BANDWIDTH_H_
#define CAUSEWAY_ENGINE_MEASURE_BANDWIDTH_H_

namespace causeway {

// Bytes per second read from a buffer much larger than the caches by `threads` threads: the best of a few passes, a few
// hundred milliseconds in all. 0 when there is no memory for the buffer.
double MeasureReadBandwidth(int threads);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_MEASURE_BANDWIDTH_H_
