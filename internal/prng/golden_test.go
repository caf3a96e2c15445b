package prng

var (
	goldenUint64 = []uint64{
		0x9d919a2aa4f69b99, 0x7abd3c5b43373451, 0x52c91e334e455336, 0x420127820222e7cf, 0x720eba0a5ac10db5,
	}
	goldenNormal = []uint64{0x3fd2cbd51c854850, 0xbfaa62a9c7afa994, 0xbfdd543369513713, 0xbfe4cd34ad0476a2}
	goldenPerm   = []int{3, 8, 9, 5, 6, 4, 2, 1, 0, 7}
)

const goldenNormalHash = 0xd37d715b0f1f91f1
