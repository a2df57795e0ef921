// Moka: a small runtime for Latte models. This header includes the whole C++ interface.
#ifndef MOKA_MOKA_H_
#define MOKA_MOKA_H_

#include "moka/chat.h"        // IWYU pragma: export
#include "moka/lookup.h"      // IWYU pragma: export
#include "moka/loop_guard.h"  // IWYU pragma: export
#include "moka/model.h"       // IWYU pragma: export
#include "moka/profile.h"     // IWYU pragma: export
#include "moka/reading.h"     // IWYU pragma: export
#include "moka/sampler.h"     // IWYU pragma: export
#include "moka/session.h"     // IWYU pragma: export
#include "moka/span.h"        // IWYU pragma: export
#include "moka/status.h"      // IWYU pragma: export
#include "moka/tasks.h"       // IWYU pragma: export
#include "moka/tokenizer.h"   // IWYU pragma: export
#include "moka/turn.h"        // IWYU pragma: export
#include "moka/version.h"     // IWYU pragma: export

#endif  // MOKA_MOKA_H_
