// Package pki makes and reads the certificates by which the processes of a run know
// each other, and the key that their gossip is encrypted with.
//
//	err := pki.Make("certs", pki.Plan{Workers: []string{"0", "1"}})   // once
//	creds, err := pki.Open("certs", "worker-0")                       // in each process
//	config := creds.TLS(pki.Coordinator)                              // of who is on the other side
//
// # Files
//
//	ca.pem, ca.key                 the authority; ca.key stays with who makes certificates
//	worker-0.pem, worker-0.key     a process: its certificate and its private key
//	gossip.key                     32 bytes in hexadecimal a line; the first encrypts, all decrypt
//
// # Identity
//
// A certificate names roles and a worker, not machines: processes move, and their
// addresses with them. It is a URI in the certificate, jambalaya://ROLE/NAME, one for
// each role. Without a name it stands for any worker, for platforms that give the same
// secret to all.
//
// # Rotation
//
// Credentials look at their files again at most every second when a connection is made,
// and use new ones from then on; connections that exist stay. Make with NewAuthority
// keeps the old authority in ca.pem beside the new one: distribute ca.pem first, then
// the certificates, then Retire. Gossip keys are changed in the same way.
//
// # Invariants
//
// TLS 1.3 only, both sides prove who they are, and what is not allowed is refused: an
// unknown authority, an expired certificate, one without a role, one with another role
// than asked for. Private keys are readable by their owner alone, and files are replaced
// as a whole.
//
// # Failure
//
// Errors name the file or the peer, what is wrong and what to do. Files that cannot be
// read while a run goes on leave the credentials as they were.
package pki
