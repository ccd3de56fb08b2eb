export {
  callerKey,
  clientAddressContext,
  clientAddressKey,
  verifierInterceptor,
  type InterceptorOptions,
} from "./connect.js";
export { TokenError, type Reason } from "./error.js";
export { callerOf, verifierMiddleware } from "./express.js";
export { importKeys, type KeySet } from "./keys.js";
export type { State } from "./revocations.js";
export { requireFresh, requireScope, verifyToken, type Actor, type Claims, type Names } from "./token.js";
export { Verifier, type VerifierOptions } from "./verifier.js";
