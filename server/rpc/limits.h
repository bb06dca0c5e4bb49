// Bounds of what a request may hold. The schema's comments state the same.
#ifndef CAUSEWAY_SERVER_RPC_LIMITS_H_
#define CAUSEWAY_SERVER_RPC_LIMITS_H_

#include <cstddef>
#include <cstdint>

namespace causeway {

inline constexpr size_t kRequestIdBytesMax = 128;
inline constexpr size_t kCacheSaltBytesMax = 256;
inline constexpr int kChatMessagesMax = 4096;
inline constexpr int32_t kPriorityMax = 1000;  // and -kPriorityMax
inline constexpr int32_t kChoicesMax = 16;
inline constexpr int kLogitBiasMax = 1024;
inline constexpr int kGrammarChoicesMax = 1024;
inline constexpr int kStopStringsMax = 16;
inline constexpr size_t kStopStringBytesMax = 256;
inline constexpr int kStopTokenIdsMax = 64;
// A longer message is tokenized by the PrepareWorkers; this much takes a hundredth of a second.
inline constexpr size_t kInlineBytesMax = 16 << 10;
// The time to make a plan grows with its devices. A plan that waits counts as kPlanBytesMin, so that sixteen may wait.
inline constexpr size_t kPlanDevicesMax = 64, kPlanBytesMin = 4 << 20;
// Bytes of layers' outputs in one message. Clients take 4 MiB by default, and sometimes the engine's thread makes the
// message.
inline constexpr int64_t kLayerRowsBytesMax = 256 << 10;
inline constexpr double kWatchIntervalMin = 0.1, kWatchIntervalMax = 60, kWatchIntervalDefault = 1;
// Statuses travel in HTTP headers; peers accept 8 KiB of headers in all.
inline constexpr size_t kStatusMessageBytesMax = 1024;

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_RPC_LIMITS_H_
