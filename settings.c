#include "settings.h"

struct settings settings_first;

_Thread_local const struct settings *settings_now = &settings_first;
