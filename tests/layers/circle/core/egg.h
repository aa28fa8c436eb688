#pragma once

#include "core/hen.h"
