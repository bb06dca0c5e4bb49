#include "engine/threads/for_each.h"

#include "engine/threads/team.h"

namespace causeway {

void ForEach(int64_t count, absl::FunctionRef<void(int64_t)> work) {
  RunRegion(
      [](const void* context, int64_t, RegionTasks& tasks) {
        const auto& each = *static_cast<const absl::FunctionRef<void(int64_t)>*>(context);
        while (tasks.Next()) {
          if (tasks.Own()) each(tasks.task);
        }
      },
      &work, sizeof(work), count);
}

}  // namespace causeway
