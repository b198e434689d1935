/* Takes the place of Chromium's libvk_swiftshader.so: the system's Vulkan, under SwiftShader's ids.
 *
 * Chromium takes a software adapter only if vendor and device are SwiftShader's
 * (CanUseAdapter in its webgpu_decoder_impl.cc).
 */
#include <dlfcn.h>
#include <stdint.h>
#include <string.h>

enum { VENDOR = 0x1AE0, DEVICE = 0xC0DE, TYPE_CPU = 4 };

/* The beginning of VkPhysicalDeviceProperties. */
typedef struct {
  uint32_t api_version, driver_version, vendor, device, type;
} Properties;

/* VkPhysicalDeviceProperties2. */
typedef struct {
  uint32_t structure_type;
  void *next;
  Properties properties;
} Properties2;

typedef void (*Function)(void);
typedef Function (*GetAddress)(void *instance, const char *name);

static void (*properties_of)(void *device, Properties *result);
static void (*properties2_of)(void *device, Properties2 *result);

static void rename_device(Properties *properties) {
  properties->vendor = VENDOR;
  properties->device = DEVICE;
  properties->type = TYPE_CPU;
}

static void renamed(void *device, Properties *result) {
  properties_of(device, result);
  rename_device(result);
}

static void renamed2(void *device, Properties2 *result) {
  properties2_of(device, result);
  rename_device(&result->properties);
}

static GetAddress loader(void) {
  static GetAddress address;
  if (!address) {
    void *library = dlopen("/usr/lib/x86_64-linux-gnu/libvulkan.so.1", RTLD_NOW | RTLD_LOCAL);
    address = (GetAddress)dlsym(library, "vkGetInstanceProcAddr");
  }
  return address;
}

__attribute__((visibility("default")))
Function vkGetInstanceProcAddr(void *instance, const char *name) {
  if (!strcmp(name, "vkGetInstanceProcAddr")) return (Function)vkGetInstanceProcAddr;
  Function found = loader()(instance, name);
  if (!found) return found;
  if (!strcmp(name, "vkGetPhysicalDeviceProperties")) {
    properties_of = (void (*)(void *, Properties *))found;
    return (Function)renamed;
  }
  if (!strcmp(name, "vkGetPhysicalDeviceProperties2") ||
      !strcmp(name, "vkGetPhysicalDeviceProperties2KHR")) {
    properties2_of = (void (*)(void *, Properties2 *))found;
    return (Function)renamed2;
  }
  return found;
}
