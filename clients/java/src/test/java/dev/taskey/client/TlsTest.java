package dev.taskey.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.taskey.support.Proxy;
import dev.taskey.support.Server;
import dev.taskey.task.v1.TaskServiceGrpc;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.io.IOException;
import java.net.InetAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLServerSocket;
import javax.net.ssl.TrustManagerFactory;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** TLS and client certificates, with a proxy that ends TLS in front of the server. */
class TlsTest {
  private static final String CERTIFICATES =
      """
      openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=ca -keyout ca.key -out ca.pem
      for name in server client; do
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=$name -keyout $name.key -out $name.csr
        printf 'subjectAltName=DNS:localhost' >$name.ext
        openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 -extfile $name.ext -out $name.pem
      done
      openssl pkcs12 -export -in server.pem -inkey server.key -passout pass:secret -out server.p12
      openssl pkcs12 -export -nokeys -in ca.pem -jdktrust anyExtendedKeyUsage -passout pass:secret -out ca.p12 ||
        keytool -importcert -noprompt -alias ca -file ca.pem -storetype PKCS12 -storepass secret -keystore ca.p12
      """;

  @TempDir private static Path folder;
  private static Server server;

  @BeforeAll
  static void start() throws Exception {
    var openssl =
        new ProcessBuilder("bash", "-ec", CERTIFICATES)
            .directory(folder.toFile())
            .redirectErrorStream(true);
    Process process = openssl.redirectOutput(folder.resolve("openssl.log").toFile()).start();
    assertEquals(0, process.waitFor(), () -> folder + ": openssl failed");
    server = new Server();
    TaskeyClientTest.signUp(server.address("gateway"), "ann@example.org");
  }

  @AfterAll
  static void stop() {
    server.close();
  }

  private static KeyStore store(String file) throws Exception {
    KeyStore store = KeyStore.getInstance("PKCS12");
    try (var input = Files.newInputStream(folder.resolve(file))) {
      store.load(input, "secret".toCharArray());
    }
    return store;
  }

  private static Proxy tlsProxy(boolean needsCertificate) throws Exception {
    var keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
    keys.init(store("server.p12"), "secret".toCharArray());
    var trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    trust.init(store("ca.p12"));
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
    var factory = context.getServerSocketFactory();
    var listener =
        (SSLServerSocket) factory.createServerSocket(0, 50, InetAddress.getLoopbackAddress());
    var parameters = listener.getSSLParameters();
    parameters.setApplicationProtocols(new String[] {"h2"});
    parameters.setNeedClientAuth(needsCertificate);
    listener.setSSLParameters(parameters);
    return new Proxy(listener, server.port("gateway"));
  }

  private static TaskeyClient.Builder builder(Proxy proxy) {
    return TaskeyClient.builder(proxy.address())
        .password("ann@example.org", TaskeyClientTest.PASSWORD);
  }

  private static void call(TaskeyClient.Builder builder) throws IOException {
    try (TaskeyClient client = builder.build()) {
      TaskServiceGrpc.newBlockingStub(client.channel())
          .createTask(TaskeyClientTest.create("Over TLS"));
    }
  }

  private static Status.Code failure(TaskeyClient.Builder builder) {
    return assertThrows(StatusRuntimeException.class, () -> call(builder)).getStatus().getCode();
  }

  @Test
  void server_is_trusted_by_its_authority_only() throws Exception {
    try (Proxy proxy = tlsProxy(false)) {
      call(builder(proxy).trustCertificates(folder.resolve("ca.pem")));
      assertEquals(Status.Code.UNAVAILABLE, failure(builder(proxy)));
    }
  }

  @Test
  void client_authenticates_with_its_certificate() throws Exception {
    try (Proxy proxy = tlsProxy(true)) {
      Path authority = folder.resolve("ca.pem");
      Path chain = folder.resolve("client.pem");
      Path key = folder.resolve("client.key");
      call(builder(proxy).trustCertificates(authority).clientCertificate(chain, key));
      assertEquals(Status.Code.UNAVAILABLE, failure(builder(proxy).trustCertificates(authority)));
    }
  }

  @Test
  void credentials_are_never_part_of_a_text() {
    assertTrue(
        new Session.Credentials("ann@example.org", "password", null).toString().endsWith("[***]"));
  }
}
