// How int8 keys and values are written: an integer is the value over its row's scale, to the nearest.
#ifndef CAUSEWAY_ENGINE_BASE_KV_FORMAT_H_
#define CAUSEWAY_ENGINE_BASE_KV_FORMAT_H_

namespace causeway {

// Integers go from -kKvInt8Max to kKvInt8Max. They are symmetric, so that a scale is all that is kept beside them. A
// row is one token's key or value of one head; its scale is its largest magnitude / kKvInt8Max.
inline constexpr int kKvInt8Max = 127;
// Rows of lesser magnitude than this are held as zeros: the inverse of their scale could overflow.
inline constexpr float kKvVanishing = 1e-30f;

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_BASE_KV_FORMAT_H_
