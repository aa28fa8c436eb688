#include "core/hen.h"

#include "core/egg.h"
