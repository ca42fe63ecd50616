package lab

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// keys are what a control plane needs, in PEM: a certificate authority, the
// API server's certificate, and the key that signs service account tokens.
type keys struct {
	ca, cert, key, serviceAccount []byte
}

func newKeys(ips ...net.IP) (*keys, error) {
	caKey, _, err := newKey()
	if err != nil {
		return nil, err
	}
	serverKey, serverPEM, err := newKey()
	if err != nil {
		return nil, err
	}
	_, serviceAccountPEM, err := newKey()
	if err != nil {
		return nil, err
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "fairlead-lab"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "kube-apiserver"},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"kubernetes.default.svc", "localhost"}, IPAddresses: ips,
	}
	caCert, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		return nil, fmt.Errorf("make certificate authority: %w", err)
	}
	serverCert, err := x509.CreateCertificate(rand.Reader, server, ca, &serverKey.PublicKey, caKey)
	if err != nil {
		return nil, fmt.Errorf("make the API server's certificate: %w", err)
	}
	return &keys{
		ca:             pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caCert}),
		cert:           pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: serverCert}),
		key:            serverPEM,
		serviceAccount: serviceAccountPEM,
	}, nil
}

func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

func (k *keys) write(dir string) error {
	for name, content := range map[string][]byte{
		"ca.crt": k.ca, "apiserver.crt": k.cert, "apiserver.key": k.key, "serviceaccount.key": k.serviceAccount,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}
