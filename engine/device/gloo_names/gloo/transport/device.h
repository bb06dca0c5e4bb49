// See gloo/context.h.
#include "gloo/context.h"  // IWYU pragma: export
