// Bounds of what a request may hold; the schema's comments state the same.
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
inline constexpr int kTopLogprobsMax = 20;
inline constexpr int kGrammarChoicesMax = 1024;
inline constexpr int kStopStringsMax = 16;
inline constexpr size_t kStopStringBytesMax = 256;
inline constexpr int kStopTokenIdsMax = 64;
// A longer message is tokenized by the PrepareWorkers; this much takes a hundredth of a second.
inline constexpr size_t kInlineBytesMax = 16 << 10;
// Of a plan that is asked for: the time it takes grows with them. One that waits counts as so many bytes: sixteen may
// wait.
inline constexpr size_t kPlanDevicesMax = 64, kPlanBytesMin = 4 << 20;
// Of layers' outputs in a message; clients take 4 MiB by default, and it is made on the engine's thread now and then.
inline constexpr int64_t kLayerRowsBytesMax = 256 << 10;
inline constexpr double kWatchIntervalMin = 0.1, kWatchIntervalMax = 60, kWatchIntervalDefault = 1;
// Statuses travel in HTTP headers, of which peers accept 8 KiB in all.
inline constexpr size_t kStatusMessageBytesMax = 1024;

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_RPC_LIMITS_H_
