package shard

import "errors"

var (
	// ErrManifest marks a manifest that cannot be believed.
	ErrManifest = errors.New("not a manifest we can use")
	// ErrShard marks a shard that is not what the manifest says, or not our schema.
	ErrShard = errors.New("damaged shard")
	// ErrToken marks a token outside the vocabulary.
	ErrToken = errors.New("token outside the vocabulary")
	// ErrEmpty marks a corpus without a document.
	ErrEmpty = errors.New("the corpus is empty")
	// ErrExists marks a folder that Create would have to overwrite.
	ErrExists = errors.New("the folder already exists")
)
