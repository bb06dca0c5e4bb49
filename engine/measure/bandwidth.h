// Measures how fast this machine reads memory, which bounds the speed of decoding.
#ifndef CAUSEWAY_ENGINE_MEASURE_BANDWIDTH_H_
#define CAUSEWAY_ENGINE_MEASURE_BANDWIDTH_H_

namespace causeway {

// Bytes per second that `threads` threads read from a buffer much larger than the caches. It takes the best of a few
// passes, a few hundred milliseconds in all. It is 0 when there is no memory for the buffer.
double MeasureReadBandwidth(int threads);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_MEASURE_BANDWIDTH_H_
