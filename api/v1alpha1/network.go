package v1alpha1

// How the rules of AddressRange work: the first rule checks that the value is a
// network or a range, and each other rule applies to one of the two only, so
// that one mistake has one message. CEL cannot compare addresses, so the two
// rules about order convert them to numbers: IPv4 to one number, IPv6 to eight,
// of which the first that differs decides. For IPv6, "::" is replaced by the
// missing zeros, and each group of hexadecimal digits is summed digit by digit.
// The rules use only functions whose result size the API server's cost estimate
// knows: substring, replace, charAt, and split with a limit.
//
// A range, unlike a network, can contain a forbidden block in its middle. It
// then contains the first address of that block (the numbers in the IPv4 rule).
// In IPv6 only fe80::/10 is a middle block; such a range ends in fec0::/10,
// which follows it.

// AddressRange is a set of addresses of one family: a network in CIDR notation
// ("192.0.2.0/24", "2001:db8::/64"), or the first and the last address with a
// dash between them ("192.0.2.10-192.0.2.20").
//
// +kubebuilder:validation:MaxLength=90
// +kubebuilder:validation:XValidation:rule=`!self.contains(' ')`,messageExpression=`'"%s" has a space in it; write "%s"'.format([self, self.replace(' ', "")])`
// +kubebuilder:validation:XValidation:rule=`self.contains(' ') || isCIDR(self) || (self.split('-', 3).size() == 2 && self.split('-', 3).all(a, isIP(a)))`,messageExpression=`isIP(self) ? '"' + self + '" is a single address; write "' + self + (self.contains(':') ? '/128' : '/32') + '"' : self.lowerAscii().contains('::ffff:') && self.contains('.') ? '"' + self + '" is an IPv4-mapped IPv6 address; write the IPv4 address, without "::ffff:"' : '"' + self + '" is neither a network nor a range of addresses; write one like "192.0.2.0/24", "192.0.2.10-192.0.2.20" or "2001:db8::/64"'`
// +kubebuilder:validation:XValidation:rule=`!isCIDR(self) || cidr(self) == cidr(self).masked()`,messageExpression=`'"%s" has host bits set; write the network "%s", or the one address "%s/%s"'.format([self, string(cidr(self).masked()), string(cidr(self).ip()), self.contains(':') ? '128' : '32'])`
// +kubebuilder:validation:XValidation:rule=`!(self.split('-', 3).size() == 2 && self.split('-', 3).all(a, isIP(a))) || (self.split('-', 3).size() == 2 && self.split('-', 3).all(a, isIP(a) && ip(a).family() == 4)) || (self.split('-', 3).size() == 2 && self.split('-', 3).all(a, isIP(a) && ip(a).family() == 6))`,messageExpression=`'"' + self + '" begins in one family and ends in the other; write one range of IPv4 addresses and one of IPv6 addresses'`
// +kubebuilder:validation:XValidation:rule=`!self.contains('.') || !(self.split('-', 3).size() == 2 && self.split('-', 3).all(a, isIP(a) && ip(a).family() == 6))`,messageExpression=`'"%s" has dots in an IPv6 address; write "%s-%s"'.format([self, string(ip(self.split('-', 3)[0])), string(ip(self.split('-', 3)[1]))])`
// +kubebuilder:validation:XValidation:rule=`!(self.split('-', 3).size() == 2 && self.split('-', 3).all(a, isIP(a) && ip(a).family() == 4)) || self.split('-', 3).map(a, [a.split('.')].map(o, int(o[0]) * 16777216 + int(o[1]) * 65536 + int(o[2]) * 256 + int(o[3]))[0]).isSorted()`,messageExpression=`'"%s" ends before it starts; write the lower address first: "%s-%s"'.format([self, self.split('-', 3)[1], self.split('-', 3)[0]])`
// +kubebuilder:validation:XValidation:rule=`self.contains('.') || !(self.split('-', 3).size() == 2 && self.split('-', 3).all(a, isIP(a) && ip(a).family() == 6)) || [[self.lowerAscii().substring(0, self.indexOf('-')), self.lowerAscii().substring(self.indexOf('-') + 1)].map(a, a.replace('::', ':' + '0:0:0:0:0:0:0:0:'.substring(0, 16 - 2 * a.split(':', 10).filter(g, g != "").size())).split(':', 10).filter(g, g != "").map(g, [0, 1, 2, 3].map(d, d < g.size() ? '0123456789abcdef'.indexOf(g.charAt(g.size() - 1 - d)) * [1, 16, 256, 4096][d] : 0).sum()))].all(p, [0, 1, 2, 3, 4, 5, 6, 7].all(i, p[0][i] <= p[1][i] || [0, 1, 2, 3, 4, 5, 6, 7].exists(j, j < i && p[0][j] < p[1][j])))`,messageExpression=`'"%s" ends before it starts; write the lower address first: "%s-%s"'.format([self, self.split('-', 3)[1], self.split('-', 3)[0]])`
// +kubebuilder:validation:XValidation:rule=`!isCIDR(self) || cidr(self).ip().family() != 4 || !['0.0.0.0/8', '127.0.0.0/8', '169.254.0.0/16', '224.0.0.0/4', '255.255.255.255/32'].exists(f, cidr(f).containsCIDR(self) || cidr(self).containsCIDR(f))`,messageExpression=`'"' + self + '" has addresses that no Service can have; write addresses outside of 0.0.0.0/8, 127.0.0.0/8 (loopback), 169.254.0.0/16 (link-local), 224.0.0.0/4 (multicast) and 255.255.255.255 (broadcast)'`
// +kubebuilder:validation:XValidation:rule=`!(self.split('-', 3).size() == 2 && self.split('-', 3).all(a, isIP(a) && ip(a).family() == 4)) || !['0.0.0.0/8', '127.0.0.0/8', '169.254.0.0/16', '224.0.0.0/4', '255.255.255.255/32'].exists(f, cidr(f).containsIP(self.split('-', 3)[0])) && [self.split('-', 3).map(a, [a.split('.')].map(o, int(o[0]) * 16777216 + int(o[1]) * 65536 + int(o[2]) * 256 + int(o[3]))[0])].all(p, [0, 2130706432, 2851995648, 3758096384, 4294967295].all(s, s < p[0] || p[1] < s))`,messageExpression=`'"' + self + '" has addresses that no Service can have; write addresses outside of 0.0.0.0/8, 127.0.0.0/8 (loopback), 169.254.0.0/16 (link-local), 224.0.0.0/4 (multicast) and 255.255.255.255 (broadcast)'`
// +kubebuilder:validation:XValidation:rule=`!isCIDR(self) || cidr(self).ip().family() != 6 || !['::/64', 'fe80::/10', 'ff00::/8'].exists(f, cidr(f).containsCIDR(self) || cidr(self).containsCIDR(f))`,messageExpression=`'"' + self + '" has addresses that no Service can have; write addresses outside of ::/64 (unspecified, loopback, IPv4-mapped), fe80::/10 (link-local) and ff00::/8 (multicast)'`
// +kubebuilder:validation:XValidation:rule=`!(self.split('-', 3).size() == 2 && self.split('-', 3).all(a, isIP(a) && ip(a).family() == 6)) || !['::/64', 'fe80::/10', 'ff00::/8'].exists(f, self.split('-', 3).exists(a, cidr(f).containsIP(a))) && (!cidr('fec0::/10').containsIP(self.split('-', 3)[1]) || cidr('fec0::/10').containsIP(self.split('-', 3)[0]))`,messageExpression=`'"' + self + '" has addresses that no Service can have; write addresses outside of ::/64 (unspecified, loopback, IPv4-mapped), fe80::/10 (link-local) and ff00::/8 (multicast)'`
type AddressRange string

// IPAddress is an IPv4 or IPv6 address: "192.0.2.10" or "2001:db8::10".
//
// +kubebuilder:validation:MaxLength=45
// +kubebuilder:validation:XValidation:rule=`isIP(self)`,messageExpression=`self.lowerAscii().contains('::ffff:') && self.contains('.') ? '"' + self + '" is an IPv4-mapped IPv6 address; write the IPv4 address, without "::ffff:"' : self.contains('%') ? '"%s" has a zone, as only link-local addresses have; write an address of another kind, or for a router interface: %s instead of peerAddress'.format([self, self.split('%')[1]]) : self.contains('/') ? '"' + self + '" has a prefix length; write the address alone, without "/" and the prefix length' : '"' + self + '" is not an IP address; write one like "192.0.2.10" or "2001:db8::10"'`
// +kubebuilder:validation:XValidation:rule=`!isIP(self) || !ip(self).isUnspecified() && self != '255.255.255.255' && !cidr('224.0.0.0/4').containsIP(self) && !cidr('ff00::/8').containsIP(self)`,messageExpression=`'"' + self + '" is not the address of a single host; write a unicast address like "192.0.2.10" or "2001:db8::10"'`
type IPAddress string

// ObjectName is the name of an object.
//
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:XValidation:rule=`self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')`,messageExpression=`'"' + self + '" cannot be the name of an object; write the one in its metadata.name, of lower-case letters, digits, "-" and "."'`
type ObjectName string

// InterfaceName is the name of a network interface on a node. Example: "eth0".
// Linux allows 15 characters.
//
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:XValidation:rule=`self.size() <= 15`,messageExpression=`'"' + self + '" is longer than the 15 characters that Linux allows; write the name as "ip link" shows it'`
// +kubebuilder:validation:XValidation:rule=`self.matches('^[^ \t\r\n/:*?@]+$') && self != '.' && self != '..'`,messageExpression=`'"' + self + '" cannot be the name of an interface; write the name as "ip link" shows it, such as "eth0", without spaces, "/", ":", "*", "?" and "@"'`
type InterfaceName string

// InterfacePattern is the name of a network interface, or a pattern for names
// in which * stands for any characters, ? for one, and [a-z] for one of a set.
// Examples: "eth0", "en*", "bond[01]".
//
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:XValidation:rule=`self.matches(r'^([^ \t\r\n/:\[\]\\@]|\[\^?([A-Za-z0-9_.]|[A-Za-z0-9_.]-[A-Za-z0-9_.])+\])+$')`,messageExpression=`'"' + self + '" is not a pattern for interface names; write a name such as "eth0", or a pattern with * for any characters, ? for one and [a-z] for one of a set, such as "en*" or "bond[01]"'`
// +kubebuilder:validation:XValidation:rule=`self.size() <= 15 || self.contains('*') || self.contains('[')`,messageExpression=`'"' + self + '" is longer than the 15 characters that Linux allows; write the name as "ip link" shows it'`
type InterfacePattern string

// ASN has 64 bits, as Kubernetes APIs have no unsigned integers; the validation
// rules limit it to 32 bits.

// ASN is the number of an autonomous system: 1 to 4294967294, in plain decimal
// (RFC 6793). Example: 64512. The numbers 23456 (RFC 6793) and 65535 (RFC
// 7300) are reserved.
//
// +kubebuilder:validation:Minimum=0
// +kubebuilder:validation:Maximum=4294967295
// +kubebuilder:validation:XValidation:rule=`!(self in [0, 23456, 65535, 4294967295])`,messageExpression=`'%d is a reserved AS number; write your own, or a private one: 64512 to 65534, or 4200000000 to 4294967294'.format([self])`
type ASN int64
