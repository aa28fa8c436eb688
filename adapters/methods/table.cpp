#include "adapters/methods/table.h"

#include <array>

namespace drystone::adapters {

// A method's row of the table is defined in its source and declared here: two lines a method.
Method lora_method();
Method rslora_method();
Method pissa_method();
Method ba_lora_method();
Method kasa_method();
Method bilora_method();
Method sbora_fa_method();
Method sbora_fb_method();
Method sora_method();
Method lora_pro_method();
Method lora_rite_method();
Method clora_method();
Method rac_lora_method();
Method flat_lora_method();
Method lora_prune_method();

std::span<const Method> plain_methods() {
  static const std::array rows = {
      lora_method(),     rslora_method(),    pissa_method(),      ba_lora_method(),
      kasa_method(),     bilora_method(),    sbora_fa_method(),   sbora_fb_method(),
      sora_method(),     lora_pro_method(),  lora_rite_method(),  clora_method(),
      rac_lora_method(), flat_lora_method(), lora_prune_method(),
  };
  return rows;
}

}  // namespace drystone::adapters
