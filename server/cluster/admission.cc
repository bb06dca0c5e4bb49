#include "server/cluster/admission.h"

#include <algorithm>

#include <openssl/crypto.h>

#include "absl/strings/str_cat.h"
#include "server/cluster/model_files.h"

namespace causeway {

std::string NameOf(const v1::Join& join) { return absl::StrCat("rank ", join.rank(), " (", join.host(), ")"); }

bool SameSecret(absl::string_view shown, absl::string_view secret) {
  return shown.size() == secret.size() && CRYPTO_memcmp(shown.data(), secret.data(), secret.size()) == 0;
}

absl::Status CheckJoin(const v1::Join& leader, const v1::Join& joining, int size) {
  if (joining.rank() < 1 || joining.rank() >= size) {
    return absl::InvalidArgumentError(absl::StrCat("expected a rank in [1, ", size - 1, "], got ", joining.rank()));
  }
  if (joining.version() != leader.version()) {
    return absl::FailedPreconditionError(absl::StrCat(NameOf(joining), " is causewayd ", joining.version(),
                                                      ", and the leader (", leader.host(), ") ", leader.version()));
  }
  return CompareModels(leader.files(), joining.files(), NameOf(joining));
}

absl::Status CheckReturn(const v1::Join& before, const v1::Join& joining, int replicas) {
  if (replicas > 1) {
    return absl::FailedPreconditionError(
        absl::StrCat(NameOf(joining), " had devices of ", replicas,
                     " replicas; only a process of one comes back without a new start"));
  }
  const auto same = [](const v1::ClusterDevice& a, const v1::ClusterDevice& b) {
    return a.kind() == b.kind() && a.memory_bytes() == b.memory_bytes() && a.model() == b.model();
  };
  if (std::equal(before.devices().begin(), before.devices().end(), joining.devices().begin(), joining.devices().end(),
                 same)) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      absl::StrCat(NameOf(joining), " came back with other devices than those that the plan is for"));
}

}  // namespace causeway
