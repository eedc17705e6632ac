//! Signatures by ring, which the TLS of this process uses already.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::signature as by_ring;
use ring::signature::{RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: no_signer,
    verifier_factory: verifier,
    // Only for making keys of an issuer's own, which we are not.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes it the one of this process. A second time it is in place already.
pub fn install() {
    let _ = PROVIDER.install_default();
}

/// How ring verifies an algorithm.
enum Check {
    Rsa(&'static RsaParameters),
    Other(&'static dyn VerificationAlgorithm),
}

impl Check {
    fn of(algorithm: Algorithm) -> Option<Self> {
        Some(match algorithm {
            Algorithm::RS256 => Self::Rsa(&by_ring::RSA_PKCS1_2048_8192_SHA256),
            Algorithm::RS384 => Self::Rsa(&by_ring::RSA_PKCS1_2048_8192_SHA384),
            Algorithm::RS512 => Self::Rsa(&by_ring::RSA_PKCS1_2048_8192_SHA512),
            Algorithm::PS256 => Self::Rsa(&by_ring::RSA_PSS_2048_8192_SHA256),
            Algorithm::PS384 => Self::Rsa(&by_ring::RSA_PSS_2048_8192_SHA384),
            Algorithm::PS512 => Self::Rsa(&by_ring::RSA_PSS_2048_8192_SHA512),
            Algorithm::ES256 => Self::Other(&by_ring::ECDSA_P256_SHA256_FIXED),
            Algorithm::ES384 => Self::Other(&by_ring::ECDSA_P384_SHA384_FIXED),
            Algorithm::EdDSA => Self::Other(&by_ring::ED25519),
            // Those with a secret that both sides know.
            _ => return None,
        })
    }
}

/// A public key and what it verifies.
struct RingVerifier {
    algorithm: Algorithm,
    check: Check,
    key: DecodingKey,
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let verified = match (&self.check, self.key.kind()) {
            (Check::Rsa(parameters), DecodingKeyKind::RsaModulusExponent { n, e }) => {
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
            }
            (Check::Other(algorithm), DecodingKeyKind::SecretOrDer(point)) => {
                UnparsedPublicKey::new(*algorithm, point).verify(message, signature)
            }
            _ => return Err(signature::Error::new()),
        };
        verified.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    let check = Check::of(*algorithm).ok_or(ErrorKind::InvalidAlgorithm)?;
    // A key of one kind used for an algorithm of another is how signatures are forged.
    if key.family() != algorithm.family() || key.family() == AlgorithmFamily::Hmac {
        return Err(ErrorKind::InvalidKeyFormat.into());
    }
    Ok(Box::new(RingVerifier {
        algorithm: *algorithm,
        check,
        key: key.clone(),
    }))
}

fn no_signer(_: &Algorithm, _: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    Err(ErrorKind::InvalidAlgorithm.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use jsonwebtoken::crypto::verify;
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};

    use super::*;

    const MESSAGE: &[u8] = b"header.claims";

    /// Of a key of 2048 bits with the exponent 65537, made for this test.
    const MODULUS: &str = "\
        qRdz_X4bXu4JtOoZZKC35zVHXB2ElI3-FT9NIBzJWSUNI7qvmpDqZ2YrEoLTGKYNvweY-U9m8JL6PEZ1R7cQKK\
        Cq30RJ111Cb57ThaGL2U_IIOX4OvLyfZY4isIYQBKhnmPwBMs0waV_w7zdV2_SSFFByfeHAxuBg4gDCps-y3zm\
        1oqaqbTY2KtSngoXPrFt6TIp5Z88RtxKKB-lYooflNdA39LyLln-bH9F821PbOlyk46eGGYxGu1huFc3RQbYcK\
        2zbgSoyrHJ_oDfjk88eSRbBWtCHOosM1u2vXYIsHr1f24ACu2h4UP9r_X63T-ZbNDJb0gWBJ8sb_YFMd-Y9w";

    /// What `openssl dgst -sha256 -sign` made of [`MESSAGE`] with it.
    const PKCS1: &str = "\
        AUQITYndiB_HplvvhrINROYkmqJMh21DTTSahqrrp6IjkAmnp0LHN44FMEojJB2wDuJj0Gjs-M800kgpxpMylK\
        LV0guAV5JiRhEg_lp1gu4MVVOd0itX3xotCwU57NVtEGFJcPVpkJJugG5OOq1sDZ6PcLE1pLj7u4V3I29piMWk\
        raHs9jCnE_pAZWLJk3cxfS9JEb5siLQPrYxFLokEIqP4CtK4q4k2Ww21XIL158qq1MLbijB60oLqP_KfUAmDxy\
        8PPP88X5L5SRYR9AMxRX5i2n2k35tVUE3KqyPxpTLOi9FptaAOo8f0f1NMxnpsivnms1ldSdtNdQ0xDaC0SA";

    /// The same with `-sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32`.
    const PSS: &str = "\
        S4O2ytoha7RAfMu9QAqWmHApUMsc1DOvvYmkwOsc0rzJ16J11b6mRYRk39qcg2TpSXeivKOTSxjBNdeP0M-QM0\
        hJUssweokmxY4ut76OGpwPm-YtfOSejU56gMc5eFL0Eu0PcizIbP1vtP7TeL00-nb_7AF2sfw9QXU1Ko9gRQNf\
        D-bTnYlvArmNPjyCNL3CT5FJyCbHXA_WhzKfQH9wzdio9zzy_Zio6rqPqcGqZHpzTdyUKwpcueu67CzJarasYQ\
        rS-obvWqvZ7bio-MMFJZqpN5vX9-usrJFqD0WaLpWCp4pO9UYYNCaZf_0xNTJfQQs9z2WLeu0t61YXRS-Ipg";

    fn is_good(signature: &str, message: &[u8], key: &DecodingKey, algorithm: Algorithm) -> bool {
        install();
        verify(signature, message, key, algorithm).unwrap_or(false)
    }

    #[test]
    fn rsa_verifies_what_openssl_signed_and_each_padding_only_its_own() {
        let key = DecodingKey::from_rsa_components(MODULUS, "AQAB").unwrap();
        assert!(is_good(PKCS1, MESSAGE, &key, Algorithm::RS256));
        assert!(is_good(PSS, MESSAGE, &key, Algorithm::PS256));
        assert!(!is_good(PSS, MESSAGE, &key, Algorithm::RS256));
        assert!(!is_good(PKCS1, MESSAGE, &key, Algorithm::PS256));
        assert!(!is_good(PKCS1, MESSAGE, &key, Algorithm::RS512));
        assert!(!is_good(PKCS1, b"header.claimz", &key, Algorithm::RS256));
    }

    #[test]
    fn the_other_curves_verify_what_they_signed() {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &random).unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, document.as_ref(), &random).unwrap();
        let key = DecodingKey::from_ec_der(pair.public_key().as_ref());
        let signature = URL_SAFE_NO_PAD.encode(pair.sign(&random, MESSAGE).unwrap());
        assert!(is_good(&signature, MESSAGE, &key, Algorithm::ES384));
        assert!(!is_good(&signature, MESSAGE, &key, Algorithm::ES256));

        let document = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
        let key = DecodingKey::from_ed_der(pair.public_key().as_ref());
        let signature = URL_SAFE_NO_PAD.encode(pair.sign(MESSAGE));
        assert!(is_good(&signature, MESSAGE, &key, Algorithm::EdDSA));
        assert!(!is_good(&signature, b"header.claimz", &key, Algorithm::EdDSA));
    }

    #[test]
    fn no_key_verifies_an_algorithm_of_another_kind() {
        let rsa = DecodingKey::from_rsa_components(MODULUS, "AQAB").unwrap();
        let secret = DecodingKey::from_secret(b"secret");
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            assert!(verifier(&algorithm, &rsa).is_err());
            assert!(verifier(&algorithm, &secret).is_err());
        }
        for algorithm in [Algorithm::ES256, Algorithm::EdDSA] {
            assert!(verifier(&algorithm, &rsa).is_err());
        }
        assert!(verifier(&Algorithm::RS256, &secret).is_err());
    }
}
