package cuda

import (
	"fmt"
	"unsafe"
)

// Devices is how many GPUs this process may use, 0 where there is no driver.
func Devices() int {
	d, err := openDriver()
	if err != nil || syscall(d.init, 0) != 0 {
		return 0
	}
	var n int32
	if syscall(d.count, uintptr(unsafe.Pointer(&n))) != 0 {
		return 0
	}
	return int(n)
}

// ID tells the backend's GPU from all others of its machine: its address on the bus.
func (b *Backend) ID() (string, error) {
	var address uintptr
	if err := b.driver.bind(map[string]*uintptr{"cuDeviceGetPCIBusId": &address}); err != nil {
		return "", err
	}
	id := make([]byte, 32)
	status := syscall(address, uintptr(unsafe.Pointer(&id[0])), uintptr(len(id)), uintptr(b.device.ordinal))
	if err := b.driver.check(fmt.Sprintf("ask for the address of %s", b.device.name), status); err != nil {
		return "", err
	}
	return cString(&id[0]), nil
}
